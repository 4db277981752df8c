"""The trace: a copy, exact counts, honest records; and the schedules that feed it."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models

from spade_cli.errors import SpadeError, UserError
from spade_cli.pruning import collect, find_layers, prune, prune_many, schedule
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.sparsegpt import sparsegpt
from spade_cli.pruning.solvers.weight_scores import magnitude


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=10).train()
    layers = find_layers(model)
    names = [layer.name for layer in layers if layer.reason is None]
    samples = torch.randn(8, 3, 64, 64)
    return model, layers, collect(model, samples.split(4), names, samples=8), samples


def test_sparsity_0_changes_nothing(measured):
    model, layers, statistics, _ = measured
    trace = prune(model, layers, schedule.uniform(layers, 0.0), statistics, sparsegpt)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in trace.model.state_dict().items())
    assert trace.weights_kept == trace.weights_total and trace.sparsity == 0


@pytest.mark.parametrize("pruner", [forward, obs, sparsegpt])
def test_records_say_what_happened(measured, pruner):
    model, layers, statistics, samples = measured
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shares = {"fc": 0.95, "layer2.0.downsample.0": 0.5}
    trace = prune(model, layers, shares, statistics, pruner)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), (
        "the dense model is borrowed"
    )
    assert model.training and not trace.model.training
    records = {record.name: record for record in trace.layers}
    assert [record.name for record in trace.layers] == [layer.name for layer in layers]
    for name, share in shares.items():
        weight = dict(trace.model.named_modules())[name].weight
        assert int((weight == 0).sum()) == round(weight.numel() * share)
        assert records[name].achieved == pytest.approx(share, abs=1e-4) and records[name].asked == share
        assert 0 < records[name].error < 1 and records[name].damping == 0.01 and records[name].left is None
    assert records["conv1"].left.startswith("stem") and records["layer1.0.conv1"].left == "its share is 0"
    kept = sum(int((dict(trace.model.named_modules())[layer.name].weight != 0).sum()) for layer in layers)
    assert trace.weights_kept == kept and trace.weights_total == sum(layer.parameters for layer in layers)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits, model.eval()(samples), atol=1e-4, rtol=1e-4)
    model.train()


@pytest.mark.parametrize("pruner", [forward, partial(sparsegpt, lazy_width=16), obs, magnitude])
def test_several_images_at_once_are_the_same_as_one_by_one(pruner):
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 24, 3, 2), nn.Conv2d(24, 40, 1))
    model = nn.Sequential(
        *(layer for one in convolutions for layer in (one, nn.ReLU())),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(40, 10),
    )
    layers, shares = find_layers(model), {"2": 0.8, "4": 0.9, "8": 0.7}
    each = [collect(model, [part], list(shares), samples=4) for part in torch.randn(8, 3, 64, 64).split(4)]
    together = prune_many(model, layers, shares, each, pruner)
    for one, trace in zip(each, together, strict=True):
        alone = prune(model, layers, shares, one, pruner)
        for name in shares:
            found, expected = (dict(t.model.named_modules())[name].weight for t in (trace, alone))
            assert torch.equal(found == 0, expected == 0)
            torch.testing.assert_close(found, expected)
        assert trace.layers[-1].error == pytest.approx(alone.layers[-1].error, rel=1e-4)
        assert torch.equal(trace.logits, one.logits)


def test_recorded_error_is_that_of_the_layers_output():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, bias=False)).eval()
    layers, x = find_layers(model), torch.randn(5, 3, 12, 12)
    statistics = collect(model, [x], ["2"], samples=5, rows_per_column=None)
    trace = prune(model, layers, {"2": 0.7}, statistics, obs)
    with torch.no_grad():
        inputs = model[:2](x)
        expected = (trace.model[2](inputs) - model[2](inputs)).square().sum() / model[2](inputs).square().sum()
    assert trace.layers[1].error == pytest.approx(float(expected), rel=1e-3)


def test_layers_without_data_are_left_and_named():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.unused, self.starved = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(x) + self.starved(x * 0)

    model = Network()
    layers = find_layers(model)
    statistics = collect(model, [torch.randn(8, 4)], [layer.name for layer in layers], samples=8)
    trace = prune(model, layers, schedule.uniform(layers, 0.5), statistics, sparsegpt)
    left = {record.name: record.left for record in trace.layers}
    assert left == {
        "head": None,
        "unused": "saw no data: the network never called it",
        "starved": "its inputs were all zero",
    }
    assert torch.equal(trace.model.unused.weight, model.unused.weight) and torch.equal(
        trace.model.starved.weight, model.starved.weight
    )


@pytest.mark.parametrize("fault", [lambda w, *_: w * torch.nan, lambda w, *_: w[:, :1]])
def test_pruner_that_breaks_its_promise_is_named(measured, fault):
    model, layers, statistics, _ = measured
    with pytest.raises(SpadeError, match="layer fc: the pruner returned"):
        prune(model, layers, {"fc": 0.5}, statistics, fault)


def test_vit_is_pruned_attention_included():
    torch.manual_seed(0)
    model = models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero
    layers = find_layers(model)
    names = [layer.name for layer in layers if layer.reason is None]
    statistics = collect(model, [torch.randn(6, 3, 32, 32)], names, samples=6)
    trace = prune(model, layers, schedule.uniform(layers, 0.5), statistics, obs)
    assert [record.left for record in trace.layers] == ["stem: the first convolution", *[None] * 9]
    assert all(record.achieved == 0.5 for record in trace.layers[1:])
    for block in trace.model.encoder.layers:
        assert int((block.self_attention.in_proj_weight == 0).sum()) == 3 * 8 * 8 / 2


def test_late_takes_the_last_blocks_before_the_head():
    layers = find_layers(models.resnet50(weights=None))
    shares = schedule.late(layers, 0.9)
    assert {".".join(name.split(".")[:2]) for name in shares} == {"layer4.2", "layer4.1"}
    assert len(shares) == 6 and "fc" not in shares and set(shares.values()) == {0.9}
    assert len(schedule.late(layers, 0.9, last=0.25)) == 13
    assert set(schedule.late(layers, None).values()) == {0.95}
    assert list(schedule.late(layers, 0.9, last=1e-6)) == [f"layer4.2.conv{i}" for i in (1, 2, 3)]
    everything = schedule.uniform(layers, 0.5)
    assert schedule.late(layers, 0.5, last=1) == {name: share for name, share in everything.items() if name != "fc"}
    with pytest.raises(UserError, match="share of the blocks"):
        schedule.late(layers, 0.5, last=0)
    assert list(schedule.late(find_layers(nn.Sequential(nn.Linear(4, 2))), 0.5)) == ["0"]


def test_uniform_and_none():
    layers = find_layers(models.mobilenet_v2(weights=None))
    uniform = schedule.uniform(layers, 0.7)
    assert "features.0.0" not in uniform and "features.1.conv.0.0" not in uniform and uniform["classifier.1"] == 0.7
    assert schedule.none(layers, 0.7) == {}


TABLES = {"lrp": [0.99, 0.98, 0.97, 0.95, 0.8, 0.6, 0.95, 0, 0.8, 0.8, 0.2, 0.99, 0.4, 0.6, 0, 0, 0.1]}


def test_papers_table_reaches_each_block_and_its_downsample():
    layers = find_layers(models.resnet50(weights=None))
    shares = schedule.paper_resnet50(layers, 0.5, tables=TABLES)
    assert shares["fc"] == 0.99 and shares["layer4.2.conv1"] == 0.98 and shares["layer4.0.downsample.0"] == 0.95
    assert shares["layer1.0.conv3"] == 0.1 and "layer1.1.conv1" not in shares and "layer3.2.conv1" not in shares
    with pytest.raises(UserError, match="no table"):
        schedule.paper_resnet50(layers, 0.5, tables=TABLES, method="gradcam")
    with pytest.raises(UserError, match="ResNet50 only"):
        schedule.paper_resnet50(find_layers(models.resnet18(weights=None)), 0.5, tables=TABLES)


def test_override_by_name_and_glob():
    layers = find_layers(models.mobilenet_v2(weights=None))
    shares = schedule.override_shares(
        layers, {"classifier.1": 0.5}, {"features.1?.*": 0.8, "features.0.0": 0.1, "features.18.0": 0.3}
    )
    assert shares["classifier.1"] == 0.5 and shares["features.0.0"] == 0.1 and shares["features.18.0"] == 0.3
    assert shares["features.10.conv.0.0"] == 0.8 and "features.10.conv.1.0" not in shares, (
        "a glob spares depthwise convolutions"
    )
    with pytest.raises(UserError, match=r"classifer.1 matches no layer.*close: classifier.1"):
        schedule.override_shares(layers, {}, {"classifer.1": 0.5})
    normed = find_layers(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))))
    with pytest.raises(UserError, match="cannot be pruned"):
        schedule.override_shares(normed, {}, {"0": 0.5})
