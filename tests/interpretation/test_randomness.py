"""What is seeded is restored, and nothing else is touched."""

import random

import numpy as np
import pytest
import torch

from spade_cli.networks.modes_and_seeds import seed_generators

CPU = torch.device("cpu")


def test_the_callers_random_numbers_are_left_as_they_were():
    before, python = (torch.get_rng_state(), np.random.get_state()[1].tobytes()), random.getstate()
    drawn = []
    for seed in (4, 4, 5):
        with pytest.raises(ZeroDivisionError), seed_generators(seed, CPU):
            drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
            raise ZeroDivisionError
    assert random.getstate() == python
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tobytes()


def test_other_devices_are_not_seeded(monkeypatch):
    seeds = []
    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, seeds.append, raising=False)
    with seed_generators(0, CPU):
        assert seeds == []


@pytest.mark.parametrize("device", ["mps", "cuda", "cuda:1"])
def test_the_devices_own_generator_is_seeded_and_restored(monkeypatch, device):
    own, other = torch.Generator().manual_seed(7), torch.Generator().manual_seed(8)
    states = own.get_state(), other.get_state()
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: own)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "default_generators", (other, own))
    drawn = []
    for _ in range(2):
        with seed_generators(3, torch.device(device)):
            drawn.append(torch.rand(1, generator=own))
    assert torch.equal(*drawn)
    assert torch.equal(own.get_state(), states[0]) and torch.equal(other.get_state(), states[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cudas_generator_is_restored():
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state()
    with seed_generators(3, device):
        torch.rand(1, device=device)
    assert torch.equal(before, torch.cuda.get_rng_state())
    with seed_generators(3, CPU):
        pass
    assert torch.equal(before, torch.cuda.get_rng_state())
