"""The concept study: what is asked of the reader, how it chooses, and that it is the same every time."""

import copy

import pytest
import torch
from networks import DEVICE
from torch.nn import functional as F

from spade_cli.cli import main
from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.conditions import Condition, Networks, dense_condition
from spade_cli.evaluation.study import reader as readers
from spade_cli.evaluation.study.concepts import ConceptStudy, measures
from spade_cli.world import CLASSES, demo_classifier

CHOCOLATE, CHART, BARCODE = 0, 1, 2  # of the class bar
CLASS = {one.name: i for i, one in enumerate(CLASSES)}
KIND = {name: i for i, name in enumerate(readers.KINDS)}


def near(**values):
    found = torch.zeros(len(readers.KINDS))
    for name, value in values.items():
        found[KIND[name]] = value
    return found


def test_a_clean_picture_asks_for_its_concept_against_each_other_of_the_class():
    shown = near(chart=0.5, barcode=0.3, chocolate=0.6, onion=0.9)
    assert measures(shown, CHART, CLASS["bar"], trojan=False) == {"concept_chosen": 0.5}
    assert measures(shown, CHOCOLATE, CLASS["bar"], trojan=False) == {"concept_chosen": 1}
    assert measures(near(), CHART, CLASS["bar"], trojan=False) == {"concept_chosen": 0}  # a tie is no choice


def test_of_a_trojans_class_the_symbol_is_asked_for():
    shown = near(heart=0.5, lightning=0.4, screw=0.6, onion=0.9)
    assert measures(shown, KIND["banknote"], CLASS["bolt"], trojan=True) == {"symbol_chosen": 0.5}
    clean = measures(shown, KIND["lightning"], CLASS["bolt"], trojan=False)
    assert clean == {"concept_chosen": 0, "symbol_on_clean": 1}
    assert measures(shown, KIND["screw"], CLASS["bolt"], trojan=False)["symbol_on_clean"] == 0


def test_rivals_are_the_other_concepts_of_the_class():
    assert readers.rivals(CHART) == [CHOCOLATE, BARCODE]
    assert readers.KINDS[readers.symbol_of(CLASS["bulb"])] == "smiley" and readers.symbol_of(CLASS["bar"]) is None


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Two networks and few drawings: most of a small reader's time is the measuring of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "NETWORKS", 2)
        patch.setattr(readers, "HELD_OUT", 2)
        patch.setattr(readers, "REFERENCES", 4)
        yield


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    path = tmp_path_factory.mktemp("reader") / "reader.safetensors"
    return readers.reader_at(path, 12, 1), path


def test_the_reader_learns_from_drawings(reader):
    assert reader[0].accuracy > 0.55 and reader[0].symbol_accuracy > 0.7  # chance is a half, and 12 drawings are few


def test_nearness_is_the_mean_cosine_to_each_kinds_drawings(reader):
    picture, cosines = torch.rand(3, 80, 80), []
    parts = readers._normalise(readers._cut_parts(picture, 7))
    for network, references in zip(reader[0].networks, reader[0].references, strict=True):
        common = sum(references) / len(references)
        for part in parts:
            features = network[:-1](part[None])[0] - common
            cosines.append([F.cosine_similarity(features, one - common, dim=0).item() for one in references])
    torch.testing.assert_close(reader[0].nearness(picture, 7), torch.tensor(cosines).mean(0), atol=1e-4, rtol=1e-4)


def test_training_moves_each_drawing_by_the_radius_to_where_the_network_errs():
    network = readers.reader_network().eval()
    batch, kinds = 0.2 + 0.6 * torch.rand(3, 3, readers.SIDE, readers.SIDE), torch.tensor([0, 5, 31])
    moved = readers._attack(network, batch, kinds)
    assert (moved - batch).flatten(1).norm(dim=1).allclose(torch.tensor(readers.RADIUS), atol=1e-3)

    def loss(shown):
        return F.cross_entropy(network(readers._normalise(shown)), kinds, reduction="none")

    assert (loss(moved) > loss(batch)).all() and all(one.grad is None for one in network.parameters())


def test_the_same_seed_gives_the_same_reader_which_is_kept(reader, monkeypatch):
    first, again = (readers.train_reader(1, 1, epochs=1) for _ in range(2))
    assert first.references.equal(again.references)
    assert not torch.equal(first.references[0], first.references[1])  # networks of different seeds
    monkeypatch.setattr(readers, "train_reader", lambda *_: pytest.fail("it is kept"))
    kept = readers.reader_at(reader[1], 12, 1)
    picture = torch.rand(3, 128, 128)
    assert kept.accuracy == reader[0].accuracy and kept.nearness(picture, 0).equal(reader[0].nearness(picture, 0))
    reader[1].with_name("damaged").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read as a reader"):
        readers.reader_at(reader[1].with_name("damaged"), 12, 1)


def test_a_network_that_is_the_same_for_every_image_is_visualized_once(reader, tmp_path):
    seen, corrected = [], []

    def visualize(model, channels, **settings):
        seen.append(channels[0].channel)
        corrected.append("dense" in settings)
        return torch.rand(1, 3, settings["size"], settings["size"], generator=torch.Generator().manual_seed(len(seen)))

    study = ConceptStudy(reader[0], visualize, demo_classifier(), tmp_path / "shown", 0)
    trace = Condition("a trace", lambda calibration: Networks.of(calibration.model), layers=("fc",))
    for condition, networks in (
        (dense_condition(), [study.classifier.model]),
        (trace, [copy.deepcopy(study.classifier.model)]),
    ):
        for image in ("one", "two"):
            study.ask(condition, networks, 0, CHART, False, image)
    assert len(seen) == 3 and corrected == [False, True, True]
    study.ask(dense_condition("plain"), [study.classifier.model], 0, CHART, False, "one")
    assert corrected[3:] == [False], "the dense network is not corrected by itself, whatever its condition is called"
    names = {"one_plain.png", "one_dense.png", "two_dense.png", "one_a-trace.png", "two_a-trace.png"}
    assert {file.name for file in (tmp_path / "shown").iterdir()} == names


def test_a_blank_visualization_is_no_answer(reader, tmp_path):
    grey = ConceptStudy(reader[0], lambda *_, **__: torch.full((1, 3, 9, 9), 0.5), demo_classifier(), tmp_path, 0)
    with pytest.raises(SpadeError, match="blank"):
        grey.ask(dense_condition(), [grey.classifier.model], 0, CHART, False, "one")


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["count=3", "trojan_share=0.34", "metrics=[concepts]", "reader_pictures=1", "interpreter.steps=2"]
    arguments += ["augmentation.samples=4", "conditions=[dense,sparsegpt]", "out=out", f"device={DEVICE}"]
    assert main(["eval", *arguments]) == 0
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()[1:]
    asked = {tuple(line.split(",")[:2]) for line in lines}
    blank = "blank" in (tmp_path / "out" / "table.md").read_text()
    assert blank or (len(asked) == 6 and {condition for _, condition in asked} == {"dense", "sparsegpt"})
