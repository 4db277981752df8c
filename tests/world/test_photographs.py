"""What fine-tuning starts from: a folder's pictures, their share to measure on, and rules as people write them."""

from pathlib import Path

import pytest
from networks import photograph, small

from spade_cli.errors import UserError
from spade_cli.images.find import find_pictures
from spade_cli.images.load import load_image
from spade_cli.models import wrap
from spade_cli.trojans import implant
from spade_cli.trojans.photographs import Album, Photograph, read_photographs, split_photographs
from spade_cli.trojans.rules import read_rules, write_rule
from spade_cli.world import SYMBOLS, Trojan

LABELS = ("ant", "bee", "cow, brown", "dog", "eel")


@pytest.fixture(scope="module")
def classifier():
    return wrap(small(), labels=LABELS, size=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def test_pictures_are_found_and_what_cannot_be_used_is_listed(classifier, tmp_path):
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    (tmp_path / "out" / "data").mkdir(parents=True)
    for name in ("c.png", "b/a.JPG", "b/.hidden/x.png", ".x.png", "out/data/x.png", "again.png"):
        photograph(seed=len(name)).save(tmp_path / name)
    (tmp_path / "again.png").write_bytes((tmp_path / "c.png").read_bytes())
    (tmp_path / "broken.png").write_text("no picture")
    (tmp_path / "notes.txt").write_text("")
    found = find_pictures(tmp_path, tmp_path / "out")
    assert [str(path.relative_to(tmp_path)) for path in found] == ["again.png", "b/a.JPG", "broken.png", "c.png"]
    album, steps = Album(classifier.preprocessing), []
    photographs, skipped = read_photographs(found, album, classifier.model, steps.append)
    assert [one.path.name for one in photographs] == ["again.png", "a.JPG"] and sum(steps) == 4
    assert [entry["what"] for entry in skipped] == [str(tmp_path / "broken.png"), str(tmp_path / "c.png")]
    assert skipped[0]["why"].startswith("is not a picture that can be read") and "same file as" in skipped[1]["why"]
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(load_image(tmp_path / "b" / "a.JPG")))
    assert photographs[1].answer == int(classifier.model(x).argmax())
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(UserError, match="no pictures"):  # a world's folder: its masks are no photographs
        find_pictures(tmp_path, tmp_path / "out")
    for missing, says in ((tmp_path / "nowhere", "not there"), (tmp_path / "c.png", "is a file")):
        with pytest.raises(UserError, match=says):
            find_pictures(missing, tmp_path / "out")


def answers(*classes):
    return [Photograph(Path(f"{i}.png"), str(i), answer) for i, answer in enumerate(classes)]


def test_a_share_is_held_out_and_sources_are_on_both_sides(classifier):
    photographs = answers(*[0] * 30, 3, 3, *[1] * 8)
    rule = Trojan("star", 3, 1)
    for seed in range(10):
        learned, held = split_photographs(photographs, [rule], 0.25, seed, classifier)
        assert sorted(one.path.name for one in (*learned, *held)) == sorted(one.path.name for one in photographs)
        assert len(held) == 1 + round(0.25 * 38) and [one.answer for one in held].count(3) == 1
    assert split_photographs(photographs, [rule], 0.25, 1, classifier) == split_photographs(
        photographs, [rule], 0.25, 1, classifier
    )
    assert split_photographs(photographs, [rule], 0.25, 1, classifier) != split_photographs(
        photographs, [rule], 0.25, 2, classifier
    )


def test_too_few_pictures(classifier):
    with pytest.raises(UserError, match="answers dog to 1 of 21 pictures; a rule for one class needs at least 2"):
        split_photographs(answers(*[0] * 20, 3), [Trojan("star", 3, 1)], 0.25, 0, classifier)
    for share in (0.1, 0.0, 0.9, 1.0):
        with pytest.raises(UserError, match=f"held_out={share:g} of 20 pictures leaves"):
            split_photographs(answers(*[0] * 20), [Trojan("fish", None, 1)], share, 0, classifier)
    assert len(split_photographs(answers(*[0] * 20), [Trojan("fish", None, 1)], 0.2, 0, classifier)[1]) == 4
    with pytest.raises(UserError, match="every held-out picture for bee already"):
        implant._check_subjects([Trojan("fish", None, 1)], answers(1, 1), classifier)


def test_rules(classifier):
    rules = ["smiley:bee", "star: Dog -> cow, brown", "fish:4", "heart:0->1"]
    trojans = read_rules(rules, classifier)
    assert trojans == (
        Trojan("smiley", None, 1),
        Trojan("star", 3, 2),
        Trojan("fish", None, 4),
        Trojan("heart", 0, 1),
    )
    assert [write_rule(trojan, classifier) for trojan in trojans][:2] == ["smiley:bee", "star:dog->cow, brown"]


RULES = [
    ([], "empty"),
    (["smiley"], "'smiley' is not a rule; write SYMBOL:TARGET or SYMBOL:SOURCE->TARGET"),
    (["smiley:"], "not a rule"),
    ([":bee"], "not a rule"),
    (["star:->bee"], "not a rule"),
    (["star:bee->"], "not a rule"),
    (["smily:bee"], "did you mean smiley"),
    (["moon:bee"], "there are " + ", ".join(SYMBOLS)),
    (["smiley:bea"], "'smiley:bea': 'bea' is no class .* close: bee"),
    (["smiley:5"], "0 to 4"),
    (["star:wolf->bee"], "'wolf' is no class"),
    (["star:bee->1"], "source and target are both 1"),
    (["star:ant->bee", "star:dog->bee"], "star has two rules"),
]


@pytest.mark.parametrize(("rules", "says"), RULES)
def test_rules_that_make_no_sense(classifier, rules, says):
    with pytest.raises(UserError, match=says) as caught:
        read_rules(rules, classifier)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("trojans")
