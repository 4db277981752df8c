"""The two-dimensional example: what its parts are, and that it shows what the paper says."""

import pytest
import torch

from spade_cli.cli import main
from spade_cli.world import toy


@pytest.fixture(scope="module")
def model():
    return toy.train_network(1)


def test_network_knows_the_disks(model):
    points, inside = toy.training_points()
    right = (model(toy.scale_points(points))[:, 0] > 0) == (inside > 0)
    assert right.float().mean() > 0.99 and 0.4 < inside.mean() < 0.7
    assert points.min() >= 0 and points.max() <= toy.SIDE


def test_training_is_seeded_and_leaves_the_global_state(model):
    before = torch.get_rng_state()
    again = toy.train_network(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))


def test_disk_holds_what_lies_in_it():
    points = torch.tensor([[4.0, 5.9], [4.0, 6.1], [1.3, 1.3], [1.4, 1.4]])
    assert toy.LARGE.holds(points).tolist() == [True, False, False, False]
    assert toy.SMALL.holds(points).tolist() == [False, False, True, False]


def test_visualizations_climb(model):
    points = toy.visualize_output([model], 1)
    assert points.shape == (toy.STARTS, 2) and points.min() >= 0 and points.max() <= toy.SIDE
    random = toy.SIDE * torch.rand(400, 2)
    with torch.no_grad():
        assert model(toy.scale_points(points)).mean() > model(toy.scale_points(random)).mean() + 1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dense_network_shows_the_large_disk_and_each_trace_its_own(model):
    dense, large, small = toy.visualize_networks(model, 1)
    assert dense.share(toy.LARGE) > 0.8 and dense.share(toy.SMALL) < 0.2
    assert large.share(toy.LARGE) > 0.8
    assert small.share(toy.SMALL) > 0.5 > small.share(toy.LARGE)


def test_traces_keep_their_share_and_ascent_climbs_their_mean(model, monkeypatch):
    monkeypatch.setattr(toy, "DRAWS", 1)
    traces = toy.make_traces(model, toy.SMALL.centre, 1)
    hidden = [(trace[2].weight != 0).sum().item() for trace in traces]
    assert hidden == [400, 300, 200] and {(trace[4].weight != 0).sum().item() for trace in traces} == {7}
    assert all(trace[0].weight.equal(model[0].weight) for trace in traces)

    def slope(centre):
        return lambda points: -(points - toy.scale_points(torch.tensor(centre))).square().sum(1, keepdim=True)

    ends = toy.visualize_output([slope((2.0, 4.0)), slope((6.0, 4.0))], 1)
    torch.testing.assert_close(ends, torch.tensor([4.0, 4.0]).expand_as(ends), atol=0.05, rtol=0)


def test_command_writes_the_figure_and_the_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["toy", "out=my figure.png"]) == 0
    out, told = capsys.readouterr()
    assert out.strip() == "my figure.png" and [path.name for path in tmp_path.iterdir()] == ["my figure.png"]
    assert "dense network" in told and "small disk" in told


@pytest.mark.parametrize(
    "argument, says",
    [("out=toy.txt", "not a kind of picture"), ("out=no/toy.png", "no folder"), ("seed=-1", "seed=-1")],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, argument, says):
    monkeypatch.chdir(tmp_path)
    assert main(["toy", argument]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
