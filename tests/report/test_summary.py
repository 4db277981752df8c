"""summary.json: written and read back the same; older ones open, damaged ones are refused in one line."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from networks import photograph, small, summary_of

import spade_cli
from spade_cli.errors import UserError
from spade_cli.records import Fidelity, Trial
from spade_cli.report.summary import (
    SUMMARY,
    SaliencyRecord,
    Skipped,
    VisualizationRecord,
    parse_summary,
    read_summary,
    write_summary,
)


@pytest.fixture(scope="module")
def summary():
    trace = spade_cli.trace(spade_cli.wrap(small(), size=32), photograph(), samples=4, layers={"conv2": 0.5})
    files = ("a.npy", "a.png", "b.png")
    checks = {"conservation": 0.5, "delta": None}
    return replace(
        summary_of(trace),
        trials=(Trial({"head": 0.9}, Fidelity(True, 0.9, 0.8, 0.1), True),),
        saliency=(SaliencyRecord("lrp", "dense", *files, "absolute channel sum", 2.0, checks, ("flat",), 0.1),),
        visualizations=(VisualizationRecord("1-cat", "trace", "c.png", 0.2),),
        skipped=(Skipped("lime", "no gradient"),),
    )


@pytest.fixture(scope="module")
def content(summary):
    """What JSON makes of it."""
    return summary.to_json()


def test_what_is_written_is_read(summary, content, tmp_path):
    write_summary(summary, tmp_path)
    assert read_summary(tmp_path) == summary
    text = (tmp_path / SUMMARY).read_text(encoding="utf-8")
    assert text == json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_summary(read_summary(tmp_path), tmp_path)
    assert (tmp_path / SUMMARY).read_text(encoding="utf-8") == text


def test_the_file_has_the_keys_and_the_order_that_it_always_had(content):
    assert list(content) == [
        *("schema_version", "target", "prediction", "fidelity", "sparsity", "flags", "spade_version", "versions"),
        *("command", "seed", "device", "image", "model", "augmentation", "pruner", "schedule", "layers", "trials"),
        *("map_traces", "visualization_traces"),
        *("saliency", "visualizations", "skipped", "seconds"),
    ]
    assert list(content["image"]) == ["path", "sha256", "size", "view"] and content["image"]["size"] == [48, 40]
    assert list(content["trials"][0]) == ["shares", "fidelity", "faithful"]
    assert content["layers"][0]["shape"] == [8, 3, 3, 3] and content["schema_version"] == 1


def test_keys_of_another_hand_are_left_out(summary, content):
    assert parse_summary(json.dumps({**content, "mine": 3}), "x") == summary


OLDER = (
    ("trials",),
    ("map_traces",),
    ("visualization_traces",),
    ("fidelity", "faithful"),
    ("image", "view"),
    ("model", "output"),
    ("model", "classes"),
)


def remove(content, path):
    """A copy without the key at this path; a list's is taken from its first item."""
    content = json.loads(json.dumps(content))
    inner = content
    for key in path[:-1]:
        inner = inner[key][0] if isinstance(inner[key], list) else inner[key]
    del inner[path[-1]]
    return content


@pytest.mark.parametrize("path", OLDER, ids=".".join)
def test_older_summaries_open(content, path):
    assert parse_summary(json.dumps(remove(content, path)), "x").target.label == "cat"


NEEDED = (
    *(("target",), ("prediction", "trace"), ("fidelity", "kl"), ("sparsity", "achieved"), ("image", "path")),
    *(("layers",), ("layers", "name"), ("saliency", "array"), ("trials", "fidelity"), ("seconds", "total"), ("seed",)),
)


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
def test_what_lacks_a_key_is_refused_and_the_key_named(content, path):
    with pytest.raises(UserError, match=f"x is damaged.*{path[-1]} is missing.*make the run again"):
        parse_summary(json.dumps(remove(content, path)), "x")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"seed": True}, "seed is True"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"flags": "none"}, "flags is 'none'"),
        ({"flags": [1]}, "flags.0 is 1"),
        ({"layers": {}}, "layers is {}"),
        ({"target": []}, "target is []"),
        ({"versions": {"python": 3}}, "versions.python is 3"),
        ({"image": {"path": "x", "sha256": "", "size": [1, 2, 3]}}, "image.size has 3 values, not 2"),
        ({"seconds": {"total": 10**400}}, "seconds.total is too large a number"),
        ({"schema_version": 2}, "its schema_version is 2, this spade reads 1"),
    ],
)
def test_wrong_values_are_refused_and_named(content, changes, says):
    with pytest.raises(UserError, match=re.escape(f"x is damaged or of another version ({says}); make the run again")):
        parse_summary(json.dumps({**content, **changes}), "x")


@pytest.mark.parametrize(
    "text, says", [("{", "cannot be read"), ("[" * 100_000, "cannot be read"), ("{}", "not of a run"), ("3", "not of")]
)
def test_what_is_no_summary_is_refused(text, says):
    with pytest.raises(UserError, match=says):
        parse_summary(text, "x")


def test_runs_are_listed_without_torch():
    code = "import sys, spade_cli.report.runs, spade_cli.cli.list; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
