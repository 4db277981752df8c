"""Files of class names that are odd: read right, or refused in one line."""

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
