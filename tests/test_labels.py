"""Class names: files in every form, odd ones read right or refused in one line; classes by label and index."""

from pathlib import Path

import pytest
from test_models import built, refused

from spade_cli.errors import UserError
from spade_cli.models import ModelSource, load_model, wrap


def test_labels_that_are_odd(tmp_path: Path) -> None:
    source = {"factory": f"{built.__module__}:built", "size": 8}
    (tmp_path / "a.txt").write_text("\nb\x0cc\nd\u2028\ne\nf\n", encoding="utf-8")
    labels = load_model(ModelSource(None, labels=str(tmp_path / "a.txt"), **source)).labels
    assert labels == ("class 0", "b\x0cc", "d", "e", "f")
    for content, word in (("[null, null]", "None"), ("[" * 100_000, "too deeply"), ("[]", "0 classes")):
        (tmp_path / "b.json").write_text(content)
        refused(ModelSource(None, labels=str(tmp_path / "b.json"), **source), word)
    with pytest.raises(UserError, match="not known"):
        wrap(built(), size=8).class_index("+-5")


def test_labels_in_text_and_json(tmp_path: Path) -> None:
    source = {"factory": "test_models:built", "size": 8}
    for name, content in (
        ("a.txt", "a\nb\nc\nd\ne"),
        ("b.json", '["a","b","c","d","e"]'),
        ("c.json", '{"0":"a","1":"b","3":"d","2":"c","4":"e"}'),
        ("d.json", '{"0":["n1","a"],"1":["n2","b"],"2":["n3","c"],"3":["n4","d"],"4":["n5","e"]}'),
    ):
        (tmp_path / name).write_text(content)
        assert load_model(ModelSource(None, labels=str(tmp_path / name), **source)).labels == tuple("abcde")
    for name, content, word in (
        ("f.txt", "a\nb", "2 classes"),
        ("g.json", "{", "not JSON"),
        ("h.json", '{"1": "a"}', "keys"),
        ("i.json", "[1]", "1"),
    ):
        (tmp_path / name).write_text(content)
        refused(ModelSource(None, labels=str(tmp_path / name), **source), word)
    refused(ModelSource(None, labels=str(tmp_path / "none"), **source), "no such file")


def test_classes_by_label_and_index() -> None:
    classifier = wrap(built(), labels=["cat", "Dog", "cat", "7", "tiger cat"], size=8)
    assert [classifier.class_index(asked) for asked in ("Dog", "dog", "7", "1", 0, "tiger cat")] == [1, 1, 3, 1, 0, 4]
    for asked, word in (
        ("cat", "0 or 2"),
        ("tigercat", "close: tiger cat"),
        (5, "0 to 4"),
        (-1, "0 to 4"),
        ("-1", "0 to 4"),
        ("xyz", "cat"),
    ):
        with pytest.raises(UserError, match=word):
            classifier.class_index(asked)
    with pytest.raises(UserError, match=r"model\.labels"):
        wrap(built(), size=8).class_index("dog")
