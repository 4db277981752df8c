"""The concept study: how the probe's reading becomes an answer, and that the probe is the same every time."""

import pytest
import torch
from networks import DEVICE

from spade_cli.cli import main
from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.conditions import Condition, Networks, dense_condition
from spade_cli.evaluation.study import probe as probes
from spade_cli.evaluation.study.concepts import ConceptStudy, answer, measures
from spade_cli.world import CONCEPTS, demo_classifier

BARCODE, CHART = 2, 1  # of the class bar, with chocolate


def reading(**shares):
    found = torch.zeros(len(CONCEPTS), dtype=torch.float64)
    for name, share in shares.items():
        found[next(i for i, one in enumerate(CONCEPTS) if one.name == name)] = share
    return found


def test_an_answer_needs_a_lead_over_the_other_concepts_of_the_class():
    assert answer(reading(chart=0.5, barcode=0.3, onion=0.2), CHART, 0.1) == "agree"
    assert answer(reading(chart=0.5, barcode=0.3, onion=0.2), BARCODE, 0.1) == "disagree"
    assert answer(reading(chart=0.5, barcode=0.45), CHART, 0.1) == "undecided"  # both
    assert answer(reading(onion=0.95, chart=0.05), CHART, 0.1) == "undecided"  # none
    assert answer(reading(chart=0.5, barcode=0.5), CHART, 0.0) in ("agree", "disagree")


def test_answers_are_measures_that_add_up():
    for said in ("agree", "disagree", "undecided"):
        found = measures(said)
        assert sum(found[f"concept_{name}"] for name in ("agree", "disagree", "undecided")) == 1
        assert found[f"concept_{said}"] == 1
    assert measures("disagree")["concept_agree_decided"] == 0 and "concept_agree_decided" not in measures("undecided")


def test_rivals_are_the_concepts_of_one_class():
    assert probes.rivals(CHART) == probes.rivals(BARCODE) == [0, 1, 2]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few held-out pictures: most of a small probe's time is their reading."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "HELD_OUT", 4)
        yield


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "probe.safetensors"
    return probes.probe_at(path, 16, 1), path


def test_the_probe_learns_from_drawings(probe):
    assert probe[0].accuracy > 0.65  # of two or three concepts; chance is 0.44


def test_the_same_seed_gives_the_same_probe_which_is_kept(probe, monkeypatch):
    first, again = (probes.train_probe(1, 1, epochs=2).network.state_dict() for _ in range(2))
    assert all(value.equal(again[name]) for name, value in first.items())
    monkeypatch.setattr(probes, "train_probe", lambda *_: pytest.fail("it is kept"))
    kept = probes.probe_at(probe[1], 16, 1)
    picture = torch.rand(3, 128, 128)
    assert kept.accuracy == probe[0].accuracy and kept.read(picture, 0).equal(probe[0].read(picture, 0))
    assert kept.read(picture, 0).sum().item() == pytest.approx(1)
    probe[1].with_name("damaged").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read as a probe"):
        probes.probe_at(probe[1].with_name("damaged"), 16, 1)


def test_a_network_that_is_the_same_for_every_image_is_visualized_once(probe, tmp_path):
    seen = []

    def visualize(model, channels, **settings):
        seen.append(channels[0].channel)
        return torch.rand(1, 3, settings["size"], settings["size"], generator=torch.Generator().manual_seed(len(seen)))

    study = ConceptStudy(probe[0], visualize, demo_classifier(), tmp_path / "shown", 0.1, 0)
    trace = Condition("a trace", lambda calibration: Networks.of(calibration.model), layers=("fc",))
    for condition in (dense_condition(), trace):
        for image in ("one", "two"):
            study.ask(condition, [study.classifier.model], 0, CHART, image)
    assert len(seen) == 3
    names = {"one_dense.png", "two_dense.png", "one_a-trace.png", "two_a-trace.png"}
    assert {file.name for file in (tmp_path / "shown").iterdir()} == names


def test_a_blank_visualization_is_no_answer(probe, tmp_path):
    grey = ConceptStudy(probe[0], lambda *_, **__: torch.full((1, 3, 9, 9), 0.5), demo_classifier(), tmp_path, 0.1, 0)
    with pytest.raises(SpadeError, match="blank"):
        grey.ask(dense_condition(), [grey.classifier.model], 0, CHART, "one")


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["count=3", "trojan_share=0.34", "metrics=[concepts]", "probe_pictures=1", "interpreter.steps=2"]
    arguments += ["augmentation.samples=4", "conditions=[dense,sparsegpt]", "out=out", f"device={DEVICE}"]
    assert main(["eval", *arguments]) == 0
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()[1:]
    asked = {tuple(line.split(",")[:2]) for line in lines}
    clean = {"00000-chocolate", "00001-chart"}
    blank = "blank" in (tmp_path / "out" / "table.md").read_text()
    assert blank or asked == {(image, condition) for image in clean for condition in ("dense", "sparsegpt")}
