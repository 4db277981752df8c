"""From Python: what the README shows, and what the arguments of `spade_cli.trace` promise."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from networks import photograph, small, summary_of

import spade_cli
from spade_cli.errors import UserError
from spade_cli.interpretation import Explanation
from spade_cli.report.summary import write_summary

README = Path(__file__).parents[1] / "README.md"


def test_readmes_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photograph().save("cat.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    code = code.replace('load_model("resnet50")', "wrap(build(), size=32)").replace("samples=256", "samples=8")
    found = {"build": small}
    exec(code, found)
    assert isinstance(found["trace"], spade_cli.Trace) and found["trace"].model(found["x"]).shape == (1, 5)


def test_the_users_network_stays_as_it_is():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace = spade_cli.trace(model, photograph((300, 280)), samples=4, layers={"conv2": 0.5})
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert int((trace.model.conv2.weight == 0).sum()) == 288 and "weights kept" in repr(trace)


def test_seeded_and_functions_or_names():
    from spade_cli.pruning.solvers.obs import obs

    classifier = spade_cli.wrap(small(), size=32)
    traces = [
        spade_cli.trace(classifier, photograph(), pruner=pruner, samples=4, seed=seed, schedule="uniform", sparsity=0.5)
        for pruner, seed in (("obs", 1), (obs, 1), ("obs", 2))
    ]
    states = [trace.model.conv1.weight for trace in traces]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    "mistake, says",
    [
        (dict(sparsity=1.5), "sparsity=1.5"),
        (dict(samples=0), "samples=0"),
        (dict(pruner="refit"), "pruner='refit' is unknown"),
        (dict(pruner="os.path"), "is unknown"),
        (dict(schedule="override"), "schedule='override' is unknown"),
        (dict(augmentation="Tensor"), "augmentation='Tensor' is unknown"),
        (dict(layers={"head": -0.2}), "-0.2 is not a share"),
    ],
)
def test_mistakes_are_told(mistake, says):
    with pytest.raises(UserError, match=re.escape(says)):
        spade_cli.trace(spade_cli.wrap(small(), size=32), photograph(), **mistake)


def test_the_tutorial_runs_and_says_what_is_true(capsys):
    found = runpy.run_path(str(README.parent / "docs" / "tutorial.py"))
    told = capsys.readouterr().out
    assert found["shares"]["trace"] > found["shares"]["dense"] > found["symbol_share"]()
    assert "the network says bolt" in told and f"{found['shares']['trace']:.0%} of the map lies on it" in told
    assert len(found["carrying"]) == 3 and found["added"].shape[0] > 3


def test_what_a_notebook_shows(tmp_path):
    trace = spade_cli.trace(spade_cli.wrap(small(), size=32), photograph(), samples=4, layers={"conv2": 0.5})
    page = trace._repr_html_()
    assert "weights kept" in page and page.count("<tr><th scope=row") == sum(one.left is None for one in trace.layers)
    assert "conv2" in page and "50.0%" in page
    shown = Explanation(torch.rand(3, 8, 8), {"conservation": 0.5}, ("lrp: <off>",))._repr_html_()
    assert "data:image/png;base64," in shown and "conservation 0.5" in shown and "lrp: &lt;off&gt;" in shown
    with pytest.raises(UserError, match="no run"):
        spade_cli.open_run(tmp_path / "nowhere")
    write_summary(summary_of(trace), tmp_path)
    (tmp_path / "report.html").write_text('<p class="x">')
    run = spade_cli.open_run(tmp_path)
    assert run.summary == summary_of(trace) and run.summary.layers == trace.layers
    assert 'srcdoc="&lt;p class=&quot;x&quot;&gt;"' in run._repr_html_()
