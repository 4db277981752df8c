"""Each step finds on a device what it finds on the CPU: SPADE_TEST_DEVICE names it (cuda); cpu compares with itself."""

import bench_devices
import pytest
import torch
from networks import DEVICE


@pytest.mark.parametrize("part", bench_devices.PARTS)
def test_a_device_finds_what_the_cpu_finds(part):
    rows = list(bench_devices.PARTS[part](torch.device(DEVICE), True))
    assert rows and [row for row in rows if not row["same"]] == []


def test_a_difference_is_seen(monkeypatch):
    def half(weight, hessian, share, block):
        return 0.5 * weight

    monkeypatch.setattr(bench_devices, "find_pruner", lambda name: half)
    places = iter([0.9, 1.0] * 10)
    monkeypatch.setattr(bench_devices, "relative_error", lambda *_: next(places))
    assert not any(row["same"] for row in bench_devices.solvers(torch.device(DEVICE), True))
