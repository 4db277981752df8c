"""Class names: files in every form, odd ones read right or refused in one line; classes by label and index."""

import json
from pathlib import Path

import pytest
from test_models import built, refused

from spade_cli.errors import UserError
from spade_cli.models import ModelSource, labels, load_model, wrap
from spade_cli.models.labels import read_labels


def test_labels_that_are_odd(tmp_path: Path) -> None:
    source = {"factory": f"{built.__module__}:built", "size": 8}
    (tmp_path / "a.txt").write_text("\nb\x0cc\nd\u2028\ne\nf\n", encoding="utf-8")
    found = load_model(ModelSource(None, labels=str(tmp_path / "a.txt"), **source)).labels
    assert found == ("class 0", "b c", "d", "e", "f")
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
        ("h.json", '{"1": "a"}', "indices are not 0 to 0"),
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


NAMES = ("tench, Tinca tinca", "7 up", "鶴", "it's", "e")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.txt", "\n".join(NAMES)),
        ("windows.txt", "\r\n".join(NAMES) + "\r\n\r\n"),
        ("old macs.txt", "\r".join(NAMES)),
        ("python.txt", repr(dict(enumerate(NAMES))).replace(", 1:", ",\n 1:").replace(", 2:", ",\n 2:")),
        ("python.json", repr(list(NAMES))),
        ("json.txt", json.dumps(NAMES, indent=1)),
        ("class_to_idx.json", json.dumps({name: index for index, name in reversed(list(enumerate(NAMES)))})),
        ("config.json", json.dumps({"id2label": {str(i): name for i, name in enumerate(NAMES)}, "size": 3})),
        ("numbered.txt", "\n".join(f"{index} {name}" for index, name in reversed(list(enumerate(NAMES))))),
        ("from one.txt", "\n".join(f"{index}: {name}" for index, name in enumerate(NAMES, 1))),
        ("table.csv", "\n".join(f"{index},{name}" for index, name in enumerate(NAMES))),
        ("behind.tsv", "\n".join(f"{name}\t{index}" for index, name in reversed(list(enumerate(NAMES))))),
        ("synsets.txt", "\n".join(f"n0144076{index} {name}" for index, name in enumerate(NAMES))),
        ("control.json", json.dumps([*NAMES[:4], "\x1be\n"])),
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms_that_name_the_same_classes(tmp_path: Path, name: str, content: str, coding: str) -> None:
    (tmp_path / name).write_bytes(content.encode(coding))
    assert read_labels(tmp_path / name, 5) == NAMES


def test_numbers_that_belong_to_the_names_stay(tmp_path: Path) -> None:
    for content in ("7 up\n101 dalmatians", "0 a\nb", "1 a\n1 b", "2 a\n3 b", "0\n1", "n01440764 a\nb", "a,5\nb,6"):
        (tmp_path / "a.txt").write_text(content)
        assert read_labels(tmp_path / "a.txt", 2) == tuple(content.split("\n"))


def test_files_that_name_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_BYTES", 100_000)
    contents: dict[str, tuple[bytes, str]] = {
        "latin.txt": (("é\n" * 5).encode("latin-1"), "not UTF-8 text"),
        "large.txt": (b"a" * 100_001, "not a file of class names"),
        "set.txt": (b"{'a', 'b'}", "holds set: write a list of names"),
        "twice.json": (b'{"a": 0, "b": 0}', "indices are not 0 to 1"),
        "gap.json": (b'{"a": 0, "b": 2}', "indices are not 0 to 1"),
        "truth.json": (b'{"a": true, "b": false}', "indices are not 0 to 1"),
        "inner.json": (b'{"0": {"name": "a"}, "1": {"name": "b"}}', "where a class name is expected"),
        "number.json": (b"3", "holds int"),
        "digits.json": (b"1" * 5000, "too long"),
        "empty.txt": (b"", "0 classes"),
    }
    for name, (content, word) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=word) as caught:
            read_labels(tmp_path / name, 2)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is a folder"):
        read_labels(tmp_path, 2)
