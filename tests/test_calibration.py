"""How statistics are measured: in passes that fit, kept in files, the same however they come about."""

import os

import pytest
import torch
from networks import photograph, small

import spade_cli
from spade_cli.errors import UserError
from spade_cli.images import augment
from spade_cli.images.load import as_image
from spade_cli.run.calibrate import Calibration, calibrate, find_store, split_passes

NAMES = ["conv1", "conv2", "head"]
EXACT = Calibration(precision="float32")


@pytest.fixture(scope="module")
def classifier():
    return spade_cli.wrap(small(), size=32)


@pytest.fixture(scope="module")
def samples(classifier):
    return augment.paper(as_image(photograph()), 8, classifier.preprocessing, 0)


def collect_statistics(classifier, samples, names, calibration, store=None, seed=0):
    return calibrate(classifier, samples, names, calibration, seed, store)


def test_passes_fit_into_the_memory_and_keep_the_order():
    model = small()  # Hessians of 72 x 72, 72 x 72 and 8 x 8 floats: 20736, 20736 and 256 bytes
    assert split_passes(model, NAMES, 1e9) == [NAMES]
    assert split_passes(model, NAMES, 30_000) == [["conv1"], ["conv2", "head"]]
    assert split_passes(model, NAMES, 1) == [["conv1"], ["conv2"], ["head"]]
    assert split_passes(model, [], 1) == [[]], "one pass all the same, for the logits"


@pytest.mark.parametrize("memory", [1, 30_000])
def test_as_many_passes_as_it_takes_give_the_same_trace(classifier, memory):
    settings = dict(samples=6, schedule="uniform", sparsity=0.5)
    one, several = (
        spade_cli.trace(classifier, photograph(), calibration=Calibration(memory=m, precision="float32"), **settings)
        for m in (1e9, memory)
    )
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, several.model.state_dict()[name])
    assert one.layers == several.layers and torch.equal(one.logits, several.logits)


def test_several_images_have_the_traces_of_each(classifier):
    images = [photograph(seed=seed) for seed in range(3)]
    settings = dict(samples=6, schedule="uniform", sparsity=0.7, calibration=Calibration(memory=30_000))
    together = spade_cli.traces(classifier, images, **settings)
    for image, trace in zip(images, together, strict=True):
        alone = spade_cli.trace(classifier, image, **settings)
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(value, trace.model.state_dict()[name])
        assert [layer.name for layer in trace.layers] == [layer.name for layer in alone.layers]
    with pytest.raises(UserError, match="images is empty"):
        spade_cli.traces(classifier, [])


def test_saved_statistics_are_read_and_only_what_is_missing_is_measured(classifier, samples, tmp_path):
    calibration = Calibration(save=tmp_path / "kept", precision="float32")
    store = find_store(classifier, samples, calibration, 0)
    fresh = collect_statistics(classifier, samples, NAMES, EXACT)
    collect_statistics(classifier, samples, ["conv1"], calibration, store)
    calls = []
    hook = classifier.model.register_forward_hook(lambda *_: calls.append(1))
    both = collect_statistics(classifier, samples, NAMES, calibration, store)
    assert len(calls) == 1, "conv2 and head are measured, in one pass"
    again = collect_statistics(classifier, samples, NAMES, calibration, store)
    assert len(calls) == 1, "nothing is"
    hook.remove()
    for found in (both, again):
        assert found.observations == fresh.observations and torch.equal(found.logits, fresh.logits)
        assert all(torch.equal(found.hessians[name], fresh.hessians[name]) for name in NAMES)


def test_a_layer_that_never_ran_is_remembered_as_such(tmp_path):
    model = small()
    model.unused = torch.nn.Linear(3, 3)
    classifier = spade_cli.wrap(model, size=32)
    samples = augment.paper(as_image(photograph()), 4, classifier.preprocessing, 0)
    calibration = Calibration(save=tmp_path)
    store = find_store(classifier, samples, calibration, 0)
    collect_statistics(classifier, samples, ["head", "unused"], calibration, store)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    assert "unused" not in collect_statistics(classifier, samples, ["head", "unused"], calibration, store).hessians
    hook.remove()
    assert not calls


def test_other_samples_weights_and_settings_have_statistics_of_their_own(classifier, samples, tmp_path):
    base = Calibration(save=tmp_path)
    other_weights = spade_cli.wrap(small(), size=32)
    with torch.no_grad():
        other_weights.model.head.bias[0] += 1
    other_forward = spade_cli.wrap(small(), size=32)
    other_forward.model.register_forward_hook(lambda module, x, logits: logits + 1)
    folders = {
        find_store(*which, seed).folder
        for *which, seed in [
            (classifier, samples, base, 0),
            (classifier, samples.flip(0), base, 0),
            (other_weights, samples, base, 0),
            (classifier, samples, Calibration(save=tmp_path, rows_per_column=4), 0),
            (classifier, samples, Calibration(save=tmp_path, batch_size=4), 0),
            (classifier, samples, Calibration(save=tmp_path, precision="bfloat16"), 0),
            (classifier, samples, Calibration(save=tmp_path, precision="float32"), 0),
            (other_forward, samples, base, 0),
            (classifier, samples, base, 1),
        ]
    }
    assert len(folders) == 8, "auto is one of bfloat16 and float32"
    assert find_store(classifier, samples, Calibration(save=tmp_path, memory=1), 0).folder in folders


def test_damaged_file_is_named(classifier, samples, tmp_path):
    calibration = Calibration(save=tmp_path)
    store = find_store(classifier, samples, calibration, 0)
    collect_statistics(classifier, samples, ["head"], calibration, store)
    (path,) = tmp_path.rglob("layer-head.safetensors")
    path.write_bytes(b"not this")
    with pytest.raises(UserError, match=r"calibration.save: .*layer-head.safetensors cannot be read .*delete it"):
        collect_statistics(classifier, samples, ["head"], calibration, store)


def test_nothing_half_written_is_left(classifier, samples, tmp_path, monkeypatch):
    calibration = Calibration(save=tmp_path)
    store = find_store(classifier, samples, calibration, 0)
    collect_statistics(classifier, samples, NAMES, calibration, store)
    assert not [folder for folder, _, _ in os.walk(tmp_path) if ".part" in folder]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_forward_pass_in_half_the_bits_gives_nearly_the_same_statistics(classifier, samples, precision):
    exact = collect_statistics(classifier, samples, NAMES, EXACT)
    found = collect_statistics(classifier, samples, NAMES, Calibration(precision=precision))
    for name in NAMES:
        assert found.hessians[name].dtype == torch.float32
        off = float((found.hessians[name] - exact.hessians[name]).norm() / exact.hessians[name].norm())
        assert off < 0.01 and (off == 0) == (precision == "float32")
