"""The twin: what it sees in a visualization, and what follows from it."""

import pytest
import torch
from networks import DEVICE
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import v2

from spade_cli.cli import main
from spade_cli.evaluation.study.twin import CROPS, Reading, Twin, measure_readings
from spade_cli.models.classifier import Classifier, Preprocessing
from spade_cli.world import demo_classifier


def linear_classifier(seed: int) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).eval()
    return Classifier(network, "linear", "none", None, None, Preprocessing(size=8, resize=8), 4)


def test_a_reading_is_the_mean_probability_over_crops():
    own, twin, shown = linear_classifier(0), linear_classifier(1), torch.rand(3, 16, 16)
    found = Twin(own, twin).read(shown, 2, seed=5)
    expected = []
    for classifier in (own, twin):
        torch.manual_seed(5)
        crop = v2.RandomResizedCrop(8, scale=(0.3, 1.0), ratio=(0.9, 1.1), antialias=True)
        total = 0.0
        for _ in range(CROPS):
            logits = classifier.model(classifier.preprocessing.normalise(crop(shown)[None]))[0]
            total += (logits[2].exp() / logits.exp().sum()).item()
        expected.append(total / CROPS)
    assert (found.own, found.twin) == pytest.approx(tuple(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("own", "twin", "dense", "symbol", "both"),
    [
        (0.9, 0.02, 0.3, 1, 0),  # the network sees its class, the twin a fifteenth of what it saw
        (0.9, 0.04, 0.3, 0, 0),  # the twin still sees more than a tenth
        (0.05, 0.0, 0.3, 0, 0),  # neither class nor symbol
        (0.1, 0.1, 0.3, 0, 1),
        (0.1, 0.09, 0.9, 1, 0),
    ],
)
def test_a_symbol_is_shown_where_the_twin_alone_loses_the_class(own, twin, dense, symbol, both):
    found, before = Reading(own, twin), Reading(1.0, dense)
    seen = {"class_seen": own, "class_seen_by_twin": twin}
    assert measure_readings(found, before, trojan=True) == {**seen, "symbol_shown": symbol}
    assert measure_readings(found, before, trojan=False) == {**seen, "class_shown": both}


def test_the_command_reads_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["world", "count=2", "out=pictures"]) == 0
    weights = demo_classifier().model.state_dict()
    save_file(
        {name: 0.9 * value if name == "fc.weight" else value for name, value in weights.items()}, "twin.safetensors"
    )
    arguments = ["eval", "data=pictures", "metrics=[concepts]", "interpreter.steps=2", "augmentation.samples=4"]
    arguments += ["interpreter=visualization", "conditions=[dense,sparsegpt]", f"device={DEVICE}"]
    assert main([*arguments, "out=none"]) == 2
    assert "twin=WEIGHTS" in capsys.readouterr().err
    assert main([*arguments, "twin=twin.safetensors", "out=out"]) == 0
    rows = [line.split(",") for line in (tmp_path / "out" / "results.csv").read_text().splitlines()[1:]]
    assert {(row[1], row[3]) for row in rows} >= {("sparsegpt", "class_seen_by_twin"), ("dense", "class_shown")}
    assert not (tmp_path / "out" / "reader.safetensors").exists()
