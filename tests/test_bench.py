"""The scripts that time whole commands: a stated depth, what is read of a process, and a dry run on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import bench_commands
import bench_networks
import bench_scale
import compare_auto
import pytest
import torch
from networks import DEVICE

SCRIPTS = Path(bench_commands.__file__).parent


@pytest.mark.parametrize(("share", "depth"), bench_networks.DEPTHS.items())
def test_a_network_keeps_its_answer_as_deep_as_stated(share, depth):
    network = bench_networks.resnet_for_tests()
    x = torch.randn(2, 3, 64, 64)
    assert network(x).argmax(1).tolist() == [0, 0]
    for pruned, stage in enumerate(reversed(bench_networks.STAGES), start=1):
        weight = network.get_submodule(f"{stage}.0.conv1").weight.data  # 1024 weights
        weight.view(-1)[: round(share * weight.numel())] = 0
        assert network(x).argmax(1).tolist() == [0 if pruned <= depth else 1] * 2


def test_a_command_is_timed_and_its_fault_told(tmp_path):
    failed = bench_commands.run_command(["run", "image=nowhere.png"], SCRIPTS.parent, tmp_path)
    assert "nowhere.png" in failed.fault and failed.seconds > 0 and 0.01 < failed.peak < 100 and not failed.stages
    stopped = bench_commands.run_command(["demo"], SCRIPTS.parent, tmp_path, limit=0.05)
    assert stopped.fault == "stopped after 0 s"


def test_tables_compare_two_versions():
    one, two = (bench_commands.Measured(seconds, 1, 1, {"load": 1.0, "total": 2.0}) for seconds in (10.0, 4.0))
    text = bench_commands.section({bench_commands.SALIENCY: [one, two], bench_commands.BESIDE: [one, one]}, SCRIPTS)
    assert (
        "| before / now | **2.50 x** |" in text
        and "| interpreter=saliency | now | 4.0 | 1.00 | 1 | 2.0 | 1.0 |" in text
    )
    assert "1.00 x (before), 2.50 x (now)" in text
    assert "| again | now | 4.0 |" in bench_commands.section({"again": [two]}, SCRIPTS)
    text = bench_commands.section(
        {bench_commands.SALIENCY: [one, bench_commands.Measured(9, 1, 1, {}, "stopped: x")]}, SCRIPTS
    )
    assert "**" not in text


def test_gains_of_two_evaluations_are_paired_by_picture(tmp_path):
    for name, gains in {"before": {"a": 0.1, "b": 0.2}, "now": {"a": 0.3, "b": 0.2, "c": 0.5}}.items():
        folder = tmp_path / name / "evaluation" / "records"
        folder.mkdir(parents=True)
        for picture, gain in gains.items():
            rows = [["dense", "lrp", "trojan_auc", 0.5], ["forward", "lrp", "trojan_auc", 0.5 + gain]]
            (folder / f"{picture}.json").write_text(
                json.dumps({"image": picture, "rows": [*rows, ["dense", "", "x", 0]]})
            )
    found = [compare_auto.read_gains(tmp_path / name) for name in ("before", "now")]
    assert found[0] == {"a": pytest.approx(10), "b": pytest.approx(20)}
    assert "| now - before, paired | +10.00 +- 10.00 | +0.0 |" in compare_auto.compare(*found)


def test_what_leads_a_batch_is_measured(tmp_path, capsys):
    for part in ("table", "list", "leader"):
        bench_scale.PARTS[part](tmp_path / part, 50)
    figures = {one["what"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {"append", "sort at the end", "load", "list: a pattern", "batch: second half"} <= set(figures)
    assert figures["batch: resume: until the first task"]["seconds"] > 0
    rows = (tmp_path / "leader" / "results" / "index.jsonl").read_text().splitlines()
    assert [json.loads(row)["number"] for row in rows] == list(range(50))


def test_the_script_for_a_gpu_runs_on_the_cpu(tmp_path):
    words = [sys.executable, str(SCRIPTS / "bench_gpu.py"), "--device", DEVICE, "--quick", "--out", str(tmp_path)]
    subprocess.run(words, check=True, cwd=tmp_path)
    found = json.loads((tmp_path / "bench_gpu.json").read_text())
    assert [one["fault"] for one in found["commands"]] == ["", ""] and found["tests"]["code"] == 0
    assert all(row["same"] for row in found["comparisons"])
    assert (tmp_path / "bench_gpu.md").read_text().startswith("## On a GPU")
