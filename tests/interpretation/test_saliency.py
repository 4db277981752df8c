"""Each method against its definition, restated slowly; the limits; what is refused and warned of."""

import linecache

import numpy as np
import pytest
import torch
from test_explainable import hooks
from torch import nn
from zoo import FOUND_AT, OF_ATTENTION, Spellings, Untraceable, picture, randomised, small_convolutional

from spade_cli import interpretation
from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS, OTHER_NAMES, PAPER_METHODS, CannotExplain, Explainable, explainable
from spade_cli.interpretation.explanation import (
    attribution_pass,
    compare_sums,
    make_explanation,
    warn_of_checks,
)
from spade_cli.interpretation.saliency.perturbation import find_segments, fit_weights

QUICK = {
    "lime": {"samples": 20},
    "occlusion": {"window": 16, "stride": 16},
    "gradient_shap": {"samples": 4},
    "rise": {"samples": 20},
}
CONVOLUTIONAL = [method for name, method in METHODS.items() if name not in OF_ATTENTION]


@pytest.fixture(scope="module")
def small() -> Explainable:
    return explainable(small_convolutional(), picture(24))


def gradient(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    image = image.clone().requires_grad_()
    return torch.autograd.grad(network(image)[0, FOUND_AT], image)[0]


def output(network: nn.Module, image: torch.Tensor) -> float:
    with torch.no_grad():
        return network(image)[0, FOUND_AT].item()


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_nothing_is_left_of_a_network_that_was_explained():
    """torch.fx keeps what it compiles until the process ends: in a batch that is gigabytes."""
    from torch.fx.graph_module import _loader

    before = set(_loader.eval_cache), {name for name in linecache.cache if name.startswith("<eval_with_key>")}
    network = explainable(small_convolutional(), picture(24))
    for method in CONVOLUTIONAL:
        method(network, picture(24), FOUND_AT, **QUICK.get(method.__name__, {}))
    interpretation.guided_gradcam(network, picture(24), FOUND_AT, layer="3")
    after = set(_loader.eval_cache), {name for name in linecache.cache if name.startswith("<eval_with_key>")}
    assert after == before


def test_saliency_and_input_x_gradient(small):
    image = picture(24)
    assert close(interpretation.saliency(small, image, FOUND_AT).map, gradient(small.model, image)[0].abs())
    product = interpretation.input_x_gradient(small, image, FOUND_AT).map
    assert close(product, (image * gradient(small.model, image))[0])


def test_integrated_gradients(small):
    image = picture(24)
    points, weights = np.polynomial.legendre.leggauss(50)
    total = torch.zeros_like(image)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):  # from [-1, 1] to [0, 1]
        total += float(weight) * gradient(small.model, float(point) * image)
    found = interpretation.integrated_gradients(small, image, FOUND_AT, batch_size=7)
    assert close(found.map, (image * total)[0])
    difference = output(small.model, image) - output(small.model, 0 * image)
    assert found.checks["convergence_delta"] == pytest.approx(found.map.sum().item() - difference, abs=1e-4)
    assert found.checks["relative_delta"] == pytest.approx(abs(found.checks["convergence_delta"] / difference))
    sums = torch.tensor([-0.96, -1.06]).view(2, 1, 1, 1)  # of maps that should sum to -1
    checks = compare_sums(sums, torch.tensor([0.04, -0.06]))
    assert warn_of_checks("integrated_gradients", checks[0]) == ()
    assert "off by 6.0%" in warn_of_checks("integrated_gradients", checks[1])[0]


def test_gradient_shap_without_noise_lies_between_its_baselines():
    torch.manual_seed(0)
    linear = explainable(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5)), picture(8))
    weight = linear.model.get_parameter("1.weight")[FOUND_AT].view(3, 8, 8)
    found = interpretation.gradient_shap(linear, picture(8), FOUND_AT, stdev=0.0, batch_size=3)
    share = (found.map / (weight * picture(8)[0])).flatten()  # samples whose baseline was zero, of all
    assert close(share, torch.full_like(share, round(share[0].item() * 50) / 50)) and 0 < share[0] < 1


def test_occlusion(small):
    image, window, stride = picture(24), 9, 5
    drops, counts = torch.zeros(3, 24, 24), torch.zeros(3, 24, 24)
    for top in range(0, 24 - window + stride, stride):
        for left in range(0, 24 - window + stride, stride):
            covered = image.clone()
            covered[:, :, top : top + window, left : left + window] = 0
            drops[:, top : top + window, left : left + window] += output(small.model, image) - output(
                small.model, covered
            )
            counts[:, top : top + window, left : left + window] += 1
    assert close(interpretation.occlusion(small, image, FOUND_AT, window=window, stride=stride).map, drops / counts)
    assert close(
        interpretation.occlusion(small, image, FOUND_AT).map,
        interpretation.occlusion(small, image, FOUND_AT, window=3, stride=1).map,  # a seventh of 24, and a third of it
    )
    with pytest.raises(UserError, match="window 25"):
        interpretation.occlusion(small, image, FOUND_AT, window=25)


def test_guided_backprop():
    torch.manual_seed(0)
    first, second = torch.randn(4, 12), torch.randn(5, 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU6(), nn.Linear(4, 5))
    network[1].weight.data, network[3].weight.data = first, second
    image = picture(2)
    hidden = first @ image.flatten() + network[1].bias
    guided = second[FOUND_AT] * (second[FOUND_AT] > 0) * ((hidden > 0) & (hidden < 6))
    found = interpretation.guided_backprop(explainable(network, image), image, FOUND_AT)
    assert close(found.map.flatten(), guided @ first)
    assert found.warnings == ()


def test_lime_finds_the_segments_that_matter():
    """A linear network: a segment's effect is the sum of weight times pixel, and ridge shrinks it a little."""
    half = torch.full((1, 3, 32, 32), 5.0)
    half[..., 16:] = -3
    network = explainable(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), half)
    network.model.get_parameter("1.weight").fill_(0.01)
    weight = network.model.get_parameter("1.weight")[FOUND_AT].view(3, 32, 32)
    segments = find_segments(half[0], 0)
    effects = torch.stack([(weight * half[0] * (segments == s)).sum() for s in range(int(segments.max()) + 1)])
    found = interpretation.lime(network, half, FOUND_AT).map
    assert effects.min() < 0 < effects.max() and found.shape == (3, 32, 32) and torch.equal(found[0], found[2])
    expected = effects.clamp(min=0)[segments]
    assert torch.allclose(found[0], expected, atol=0.1 * effects.abs().max().item())
    assert found.min() == 0


def test_lime_fits_weighted_ridge_regression():
    torch.manual_seed(0)
    visible, outputs = torch.rand(30, 4).round().double(), torch.randn(30).double()
    found = fit_weights(visible, outputs)
    cosine = nn.functional.cosine_similarity(visible, torch.ones_like(visible))
    similarity = torch.exp(-((1 - cosine) ** 2) / 0.25**2).sqrt()
    weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)  # the last is the intercept
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss():
        solver.zero_grad()
        error = similarity * (visible @ weights[:4] + weights[4] - outputs) ** 2
        (value := error.sum() + (weights[:4] ** 2).sum()).backward()
        return value

    solver.step(loss)
    assert torch.allclose(found.double(), weights[:4].detach(), atol=1e-4)


def test_rise_compares_masks_that_show_a_pixel_with_all_masks(small):
    image, samples, grid, visible = picture(24), 30, 5, 0.3
    dice, masks, outputs = torch.Generator().manual_seed(4), [], []
    for _ in range(samples):
        cells = (torch.rand(1, 1, grid, grid, generator=dice) < visible).float()  # 5 pixels each: 24 / 5, rounded up
        top, left = (int(torch.randint(5, (), generator=dice)) for _ in range(2))
        large = nn.functional.interpolate(cells, size=(30, 30), mode="bilinear")[0, 0]
        masks.append(large[top : top + 24, left : left + 24])
        outputs.append(output(small.model, image * masks[-1]))
    mean = sum(outputs) / samples
    expected = sum((one - mean) * mask for one, mask in zip(outputs, masks, strict=True)) / (samples * visible)
    settings = {"samples": samples, "grid": grid, "visible": visible, "seed": 4}
    for batch_size in (7, 30):
        found = interpretation.rise(small, image, FOUND_AT, batch_size=batch_size, **settings).map
        assert torch.allclose(found[0], expected, atol=1e-3 * expected.abs().max().item())
    assert found.min() < 0 < found.max() and torch.equal(found[0], found[2])


def test_rise_finds_the_half_that_matters():
    """A linear network that sees the left half only: there a visible pixel raises the output, elsewhere by chance."""
    bright = torch.ones(1, 3, 32, 32)
    network = explainable(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), bright)
    weight = network.model.get_parameter("1.weight").view(5, 3, 32, 32)
    weight.zero_()
    weight[FOUND_AT, ..., :16] = 1.0
    found = interpretation.rise(network, bright, FOUND_AT, samples=2000).map[0]
    assert found[:, :12].min() > found[:, 20:].max()


def test_deeplift_where_tensors_are_shared_and_windows_overlap(small):
    for network, image in ((small, picture(24)), (explainable(randomised(Spellings()), picture(24)), picture(24))):
        found = interpretation.deeplift(network, image, FOUND_AT)
        difference = output(network.model, image) - output(network.model, 0 * image)
        assert found.map.sum().item() == pytest.approx(difference, rel=1e-3)


@pytest.mark.parametrize("method", CONVOLUTIONAL, ids=lambda method: method.__name__)
def test_every_method(method, small):
    image, settings = picture(24), QUICK.get(method.__name__, {})
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    first, second = (method(small, image, FOUND_AT, **settings) for _ in range(2))
    assert first.map.shape == (3, 24, 24) and first.map.dtype == torch.float32 and first.map.abs().max() > 0
    assert first.map.numpy().tobytes() == second.map.numpy().tobytes()
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tobytes()
    if "seed" in (method.__kwdefaults__ or {}):
        assert not torch.equal(first.map, method(small, image, FOUND_AT, **settings, seed=1).map)
    assert hooks(small.model) == 0 and not image.requires_grad
    with pytest.raises(UserError, match="classes 0 to 4"):
        method(small, image, 5, **settings)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_untraceable_networks_are_explained_or_refused(method):
    network = explainable(Untraceable(), picture(24))
    rewritten = ("deeplift", "lrp", "guided_backprop", "guided_gradcam", "gradcam", "hirescam", "score_cam")
    if method.__name__ in (*rewritten, *OF_ATTENTION):
        with pytest.raises(CannotExplain, match=r"torch\.fx cannot trace"):
            method(network, picture(24), FOUND_AT)
    else:
        assert method(network, picture(24), FOUND_AT, **QUICK.get(method.__name__, {})).map.abs().max() > 0


def test_maps_that_say_nothing():
    dead = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    dead[1].weight.data.zero_()
    assert any(
        "same value" in line for line in interpretation.saliency(explainable(dead, picture(4)), picture(4), 0).warnings
    )
    broken = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    broken[1].weight.data.fill_(float("nan"))
    with pytest.raises(CannotExplain, match="not finite"):
        interpretation.saliency(explainable(broken, picture(4)), picture(4), 0)
    assert make_explanation("lime", torch.rand(1, 1, 4, 4)).map.shape == (3, 4, 4)


def test_no_hook_stays_after_an_exception(small):
    with pytest.raises(ZeroDivisionError), attribution_pass(small.model):
        small.model.register_forward_hook(lambda *_: None)
        raise ZeroDivisionError
    assert hooks(small.model) == 0


def test_methods_are_named_after_their_functions():
    others = ("gradcam", "hirescam", "score_cam", "rise", *OF_ATTENTION)
    assert tuple(METHODS) == (*PAPER_METHODS, *others) and len(PAPER_METHODS) == 10
    assert set(OTHER_NAMES.values()) < set(METHODS) and not set(OTHER_NAMES) & set(METHODS)
    assert all(getattr(interpretation, name) is method for name, method in METHODS.items())


def test_lime_fits_outputs_of_a_device_without_float64():
    class OnMPS:
        def __init__(self, values):
            self.values = values

        def cpu(self):
            return self.values

    torch.manual_seed(0)
    visible, outputs = torch.rand(9, 4).round(), torch.randn(9)
    assert torch.equal(fit_weights(OnMPS(visible), OnMPS(outputs)), fit_weights(visible, outputs))


@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("occlusion", {"window": 25}, "window 25"),
        ("occlusion", {"stride": 0}, "stride 0"),
        ("occlusion", {"batch_size": 0}, "occlusion.batch_size=0"),
        ("lime", {"samples": 1}, r"lime\.samples=1 .* 2 or more"),
        ("lime", {"batch_size": 0}, "lime.batch_size=0"),
        ("rise", {"samples": 1}, r"rise\.samples=1 .* 2 or more"),
        ("rise", {"visible": 1.0}, r"rise\.visible=1\.0 .* between 0 and 1"),
        ("rise", {"grid": 0}, "rise.grid=0"),
        ("rise", {"batch_size": 0}, "rise.batch_size=0"),
        ("score_cam", {"batch_size": 0}, "score_cam.batch_size=0"),
        ("gradient_rollout", {"interpolation": "cubic"}, "interpolation=cubic is unknown; give nearest or bilinear"),
        ("legrad", {"interpolation": "cubic"}, "interpolation=cubic is unknown; give nearest or bilinear"),
        ("integrated_gradients", {"steps": 0}, "integrated_gradients.steps=0"),
        ("integrated_gradients", {"batch_size": 0}, "integrated_gradients.batch_size=0"),
        ("gradient_shap", {"samples": 0}, "gradient_shap.samples=0"),
        ("gradient_shap", {"batch_size": 0}, "gradient_shap.batch_size=0"),
        ("gradient_shap", {"stdev": -1.0}, r"gradient_shap.stdev=-1\.0"),
        ("guided_gradcam", {"interpolation": "cubic"}, "interpolation=cubic is unknown; give nearest or bilinear"),
    ],
)
def test_settings_that_make_no_sense(small, name, settings, line):
    with pytest.raises(UserError, match=line):
        METHODS[name](small, picture(24), FOUND_AT, **settings)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_network_that_a_method_breaks_is_refused_in_one_line(method):
    class OneAtATime(nn.Module):
        """Writes into what its gradient needs, and takes one image at a time."""

        def forward(self, x):
            x = x.exp()
            x *= 2
            return x.mean((2, 3)).view(1, 3)

    network = explainable(OneAtATime(), picture(24))
    with pytest.raises(CannotExplain, match=r"the network fails under this method|cannot be rewritten") as caught:
        method(network, picture(24), FOUND_AT, **QUICK.get(method.__name__, {}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["saliency", "deeplift", "guided_backprop", "guided_gradcam", "integrated_gradients"])
def test_a_network_without_a_gradient_is_told_so(name):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 5, 3)

        def forward(self, x):
            return self.layer(x.detach()).relu().mean((2, 3))

    with pytest.raises(CannotExplain, match=r"^no gradient of the answer reaches the picture"):
        METHODS[name](explainable(Detached(), picture(24)), picture(24), FOUND_AT)


def test_running_out_of_memory_is_not_the_networks_fault(small):
    with pytest.raises(torch.OutOfMemoryError), attribution_pass(small.model):
        raise torch.OutOfMemoryError("CUDA out of memory")
