"""Saliency methods and objectives of the user's own: they work like their siblings, or are refused in one line."""

import json
import pickle

import pytest
import torch
from networks import DEVICE
from PIL import Image
from zoo import FOUND_AT, picture, small_convolutional

from spade_cli import interpretation
from spade_cli.cli import main
from spade_cli.errors import SpadeError, UserError
from spade_cli.interpretation import (
    CannotExplain,
    Channel,
    Explanation,
    explainable,
    own_method,
    own_objective,
    visualize,
)

SETTINGS = {"size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


def gradient(network, image, target, *, power=1):
    """Input x gradient again, after a change of the network and with a hook that stays."""
    image.requires_grad_()
    (slope,) = torch.autograd.grad(network(image)[0, target], image)
    network[0].weight.data.zero_()
    network[0].register_forward_hook(lambda *_: 1 / 0)
    return (image * slope).detach() ** power


def noisy(network, image, target):
    return image[0] + torch.randn(3, *image.shape[2:])


def whole(network, image, target):
    return Explanation(image[0], {"sum": 3.0}, ("whole: it is the picture",))


def one_channel(network, image, target):
    return image[0].mean(0)


def small_map(network, image, target):
    return image[0, :, :5]


def empty(network, image, target):
    return None


def not_finite(network, image, target):
    return image / 0


def fails(network, image, target):
    return network.layer9(image)


def takes_two(network, image):
    return image


def needs_more(network, image, target, steps):
    return image


def everything(activations, channel):
    return activations


def stumbles(activations, channel):
    return activations.nothing


def squared(activations, channel):
    return activations[:, channel].square().mean()


def test_a_method_sees_the_network_and_may_change_its_copy():
    network, image = small_convolutional(), picture(24)
    safe, method = explainable(network, image), own_method(gradient)
    expected = interpretation.input_x_gradient(safe, image, FOUND_AT).map
    for _ in range(2):  # the first call leaves nothing behind
        found = method(safe, image, FOUND_AT)
        assert torch.allclose(found.map, expected, atol=1e-6) and found.warnings == ()
    assert torch.allclose(own_method(gradient, power=2)(safe, image, FOUND_AT).map, expected**2, atol=1e-6)
    assert method.name == "gradient" and not image.requires_grad
    assert pickle.loads(pickle.dumps(method)) == method  # a batch's workers get it
    with pytest.raises(UserError, match="classes 0 to 4"):
        method(safe, image, 5)


def test_maps_of_every_shape_and_the_same_each_time():
    safe, image = explainable(small_convolutional(), picture(24)), picture(24)
    first, second = (own_method(noisy)(safe, image, FOUND_AT).map for _ in range(2))
    assert torch.equal(first, second)
    found = own_method(whole)(safe, image, FOUND_AT)
    assert torch.equal(found.map, image[0]) and found.checks == {"sum": 3.0}
    assert found.warnings == ("whole: it is the picture",)
    assert torch.equal(own_method(one_channel)(safe, image, FOUND_AT).map, image[0].mean(0).expand(3, 24, 24))


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (small_map, r"^small_map returned a tensor \(3, 5, 24\); return a tensor \(3, 24, 24\)"),
        (empty, "^empty returned NoneType; return a tensor"),
        (not_finite, "^not_finite gave values that are not finite"),
        (fails, r"^fails raised AttributeError in test_own.py, line \d+: .* no attribute 'layer9'$"),
    ],
)
def test_what_a_method_does_wrong_is_one_line(function, line):
    with pytest.raises(CannotExplain, match=line) as caught:
        own_method(function)(explainable(small_convolutional(), picture(24)), picture(24), FOUND_AT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (takes_two, r"takes_two cannot be called with \(network, image, target\): too many positional arguments"),
        (needs_more, "missing a required argument: 'steps'.* a default for each setting"),
        (lambda network, image, target: image, "is not a function with a name"),
        ("test_own:nothing", "test_own:nothing: test_own has no nothing"),
        ("test_own:SETTINGS", r"is an object of type dict: give a function \(network, image, target\)"),
        ("nowhere:at_all", "no module nowhere"),
        ("test_own:", "package.module:function; write for example mypackage.mymodule:mymethod"),
    ],
)
def test_what_is_no_method_is_refused(function, line):
    with pytest.raises(UserError, match=line):
        own_method(function)


def test_an_objective_is_climbed():
    network = small_convolutional()
    target, grey = Channel("3", 2), torch.full((1, 3, 32, 32), 0.5)

    def less(activations, channel):
        return -activations[:, channel].mean()

    kept = []
    network[3].register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    found = {}
    for name, objective in (("more", None), ("less", less)):
        made = visualize([network], [target], **SETTINGS, steps=20, objective=objective)
        mean, std = (torch.tensor(SETTINGS[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            network((made - mean) / std)
        found[name] = target.read(kept[-1]).mean().item()
    with torch.no_grad():
        network((grey - mean) / std)
    assert found["less"] < target.read(kept[-1]).mean().item() < found["more"]


def test_an_objective_sees_channels_in_the_second_place():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.mix = torch.nn.Conv2d(3, 6, 8, 8), torch.nn.Linear(6, 7)

        def forward(self, x):
            return self.mix(self.patches(x).flatten(2).transpose(1, 2)).mean(1)

    seen = []

    def watched(activations, channel):
        seen.append((tuple(activations.shape), channel))
        return activations[:, channel].mean()

    channels = [Channel("mix", 3), Channel("patches", 5), Channel(None, 6)]
    visualize([Tokens()], channels, **SETTINGS, steps=1, crops=2, objective=watched)
    assert seen == [((1, 7, 16), 3)] * 2 + [((1, 6, 4, 4), 5)] * 2 + [((1, 7), 6)] * 2  # each crop on its own


def test_objectives_are_checked():
    def asked(objective):
        visualize([small_convolutional()], [Channel(None, 1)], **SETTINGS, steps=1, objective=objective)

    with pytest.raises(SpadeError, match=r"^everything returned a tensor \(1, 5\); return a tensor with one value"):
        asked(everything)
    with pytest.raises(SpadeError, match=r"^takes_two returned int; return a tensor with one value"):
        asked(takes_two)  # the channel
    with pytest.raises(SpadeError, match=r"^stumbles raised AttributeError in test_own.py, line \d+: "):
        asked(stumbles)
    with pytest.raises(UserError, match=r"^interpreter.objective: .* is not a function with a name"):
        asked(lambda activations, channel: activations.mean())
    with pytest.raises(UserError, match=r"gradient cannot be called with \(activations, channel\)"):
        asked("test_own:gradient")
    assert own_objective("test_own:squared").name == "squared"


def test_a_run_with_both(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spade_mine.py").write_text(
        "def light(network, image, target, *, scale=1.0):\n    return image * scale\n\n\n"
        "def saliency(network, image, target):\n    return image\n\n\n"
        "def climb(activations, channel):\n    return activations[:, channel].sum()\n"
    )
    Image.new("RGB", (140, 130), (200, 30, 90)).save("p.png")
    words = ["run", "image=p.png", "model=demo", "augmentation.samples=4", "schedule=late", "interpreter.steps=2"]
    own = ["interpreter.methods=[saliency,spade_mine:light]", "interpreter.objective=spade_mine:climb"]
    assert main([*words, *own, "+interpreter.light.scale=2.0", "--quiet", f"device={DEVICE}"]) == 0
    folder = tmp_path / capsys.readouterr().out.strip()
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert [record["method"] for record in found["saliency"]] == ["saliency"] * 2 + ["light"] * 2
    assert (folder / "saliency" / "light_trace.npy").exists() and "light" in (folder / "report.html").read_text("utf-8")
    for wrong, line in (
        ("interpreter.methods=[spade_mine:saliency]", "has the name of another method; give the function a new name"),
        ("interpreter.methods=[spade_mine:dark]", "spade_mine has no dark"),
        ("interpreter.objective=spade_mine:dark", "spade_mine has no dark"),
        ("interpreter.objective=3", "is not of the form package.module:function"),
    ):
        assert main([*words, wrong]) == 2
        assert line in capsys.readouterr().err
    assert main([*words, own[0], "+interpreter.light.scal=2.0"]) == 2
    assert "interpreter.light.scal is no setting of light; its settings: scale" in capsys.readouterr().err
