"""The mean over noisy copies and networks: its definition restated slowly, its limits, checks, warnings and cost."""

from functools import partial

import pytest
import torch
from torch import nn
from zoo import FOUND_AT, OF_ATTENTION, Untraceable, picture, small_convolutional

from spade_cli import interpretation
from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS, SIGNED, Explainable, SmoothedMethod, explainable, own_method
from spade_cli.interpretation.saliency import smoothing
from spade_cli.interpretation.saliency.perturbation import find_segments, weigh_segments
from spade_cli.interpretation.saliency.smoothing import merge_warnings

QUICK = {
    "lime": {"samples": 20},
    "occlusion": {"window": 16, "stride": 16},
    "gradient_shap": {"samples": 8},
    "integrated_gradients": {"steps": 32},
    "rise": {"samples": 20},
}
IN_ONE_PASS = (
    *("saliency", "input_x_gradient", "deeplift", "lrp", "guided_backprop", "guided_gradcam", "gradcam", "hirescam"),
)
NOISE = 0.2


@pytest.fixture(scope="module")
def networks() -> list[Explainable]:
    """Two networks of one structure with other weights."""
    found = []
    for scale in (1.0, 0.7):
        network = small_convolutional()
        network[3].weight.data *= scale
        network[8].bias.data += scale
        found.append(explainable(network, picture(24)))
    return found


def quick(name):
    return partial(METHODS[name], **QUICK.get(name, {}))


def noisy_copies(image, count, seed=0, noise=NOISE):
    """The definition: normal noise, whose deviation is a share of the image's own range."""
    generator = torch.Generator().manual_seed(seed)
    spread = image.max() - image.min()
    return [image + noise * spread * one for one in torch.randn(count, 1, *image.shape[1:], generator=generator)]


def close(found, expected):
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OF_ATTENTION])
@pytest.mark.parametrize("limit", [{"samples": 1, "noise": NOISE}, {"samples": 8, "noise": 0.0}])
def test_one_sample_or_no_noise_is_the_plain_method_to_the_last_digit(networks, name, limit):
    plain = quick(name)(networks[0], picture(24), FOUND_AT)
    found = SmoothedMethod(quick(name), **limit)(networks[:1], picture(24), FOUND_AT)
    assert torch.equal(found.map, plain.map) and (found.checks, found.warnings) == (plain.checks, plain.warnings)
    assert (found.samples, found.noise) == (1, 0)


@pytest.mark.parametrize("name", IN_ONE_PASS)
def test_the_mean_over_copies_that_take_turns_on_two_networks(networks, name):
    image = picture(24)
    maps = [
        METHODS[name](networks[number % 2], copy, FOUND_AT).map for number, copy in enumerate(noisy_copies(image, 5))
    ]
    mean, size = sum(maps) / 5, sum(one.abs() for one in maps) / 5
    expected = mean if name in SIGNED else size * mean.sign()
    found = SmoothedMethod(METHODS[name], 5, NOISE)(networks, image, FOUND_AT)
    assert close(found.map, expected) and (found.samples, found.noise) == (5, NOISE)
    assert not close(found.map, METHODS[name](networks[0], image, FOUND_AT).map)


def test_which_copy_goes_to_which_network(networks):
    image, asked = picture(24), []

    def watch(network, image, target):
        asked.append((network[8].bias[0].item(), image))
        return image

    biases = [network.original[8].bias[0].item() for network in networks]
    SmoothedMethod(own_method(watch), 3, NOISE)(networks, image, FOUND_AT)
    copies = noisy_copies(image, 3)
    assert [bias for bias, _ in asked] == [biases[0], biases[0], biases[1]]  # each network's copies together
    assert all(torch.equal(seen, copies[number]) for (_, seen), number in zip(asked, (0, 2, 1), strict=True))
    for samples, count in ((1, 2), (2, 2)):
        asked.clear()
        found = SmoothedMethod(own_method(watch), samples, NOISE)(networks, image, FOUND_AT)
        assert [bias for bias, _ in asked] == biases and len(asked) == count
        assert torch.equal(asked[0][1], image) == (samples == 1) and found.samples == samples
    asked.clear()
    found = SmoothedMethod(own_method(watch), 2, NOISE)([*networks, networks[0]], image, FOUND_AT)
    assert len(asked) == found.samples == 3, "every network gets a copy"


def test_the_noise_is_the_seeds_and_the_same_for_every_network():
    image = picture(8)
    linear = [explainable(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), image) for _ in range(2)]
    state = torch.get_rng_state()
    found = {
        seed: [SmoothedMethod(METHODS["input_x_gradient"], 4, NOISE, seed)([one], image, 0).map for one in linear]
        for seed in (0, 0, 7)
    }
    sizes = {}
    for seed, maps in found.items():
        for network, made in zip(linear, maps, strict=True):
            weight = network.model.get_parameter("1.weight")[0].view(3, 8, 8)
            sizes.setdefault(seed, []).append(made.abs() / weight.abs())  # the mean size of the copies' pixels
    assert close(sizes[0][0], sizes[0][1]) and not close(sizes[0][0], sizes[7][0])
    assert close(sizes[0][0], sum(copy[0].abs() for copy in noisy_copies(image, 4)) / 4)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["deeplift", "integrated_gradients"])
def test_the_sum_that_is_checked_is_that_of_the_signed_mean(networks, name):
    image, copies = picture(24), noisy_copies(picture(24), 4)
    found = SmoothedMethod(quick(name), 4, NOISE)(networks, image, FOUND_AT)
    settings = {"steps": 8} if name == "integrated_gradients" else {}
    total = difference = 0.0
    for number, copy in enumerate(copies):
        network = networks[number % 2]
        total += METHODS[name](network, copy, FOUND_AT, **settings).map.sum().item() / 4
        with torch.no_grad():
            answers = network.model(torch.cat([copy, 0 * copy]))[:, FOUND_AT]
        difference += (answers[0] - answers[1]).item() / 4
    assert found.checks["convergence_delta"] == pytest.approx(total - difference, abs=1e-4)
    assert found.checks["relative_delta"] == pytest.approx(abs(total - difference) / abs(difference), abs=1e-4)
    assert found.warnings == ()


def test_conservation_is_the_mean_of_the_copies(networks):
    image = picture(24)
    found = SmoothedMethod(METHODS["lrp"], 4, NOISE)(networks, image, FOUND_AT)
    each = [METHODS["lrp"](networks[i % 2], copy, FOUND_AT) for i, copy in enumerate(noisy_copies(image, 4))]
    assert found.checks["conservation"] == pytest.approx(sum(one.checks["conservation"] for one in each) / 4)


def test_copies_share_the_points_of_a_method_that_takes_many(networks):
    image = picture(24)
    rows = count_rows(networks[0].model, lambda: quick("integrated_gradients")(networks[0], image, FOUND_AT))
    smooth = SmoothedMethod(quick("integrated_gradients"), 4, NOISE)
    assert count_rows(networks[0].model, lambda: smooth(networks[:1], image, FOUND_AT)) == rows + 3 * 2
    shap = SmoothedMethod(quick("gradient_shap"), 4, NOISE)(networks[:1], image, FOUND_AT)
    each = [
        METHODS["gradient_shap"](networks[0], copy, FOUND_AT, samples=2, seed=number).map
        for number, copy in enumerate(noisy_copies(image, 4))
    ]
    assert close(shap.map.abs(), sum(one.abs() for one in each) / 4)


@pytest.mark.parametrize(("samples", "each"), [(20, 5), (3, 2)])  # a linear model takes two
def test_each_copy_has_segments_and_coverings_of_its_own(samples, each):
    image = torch.full((1, 3, 32, 32), 5.0)
    image[..., 16:] = -3
    torch.manual_seed(0)
    linear = [explainable(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), image) for _ in range(2)]
    for network in linear:
        network.model.get_parameter("1.weight").abs_()  # the bright half speaks for the class
    copies = noisy_copies(image, 4, noise=0.02)
    found = SmoothedMethod(partial(METHODS["lime"], samples=samples), 4, 0.02)(linear, image, FOUND_AT)
    maps = [
        weigh_segments(linear[number % 2], copy, FOUND_AT, samples=each, seed=number).map
        for number, copy in enumerate(copies)
    ]
    assert samples == 3 or min(one.min() for one in maps) < 0, (
        "what speaks against the class is left out of the mean, not of each copy"
    )
    assert close(found.map, (sum(maps) / 4).clamp(min=0)) and found.samples == 4 and found.map.max() > 0
    parts = [find_segments(copy[0], number) for number, copy in enumerate(copies)]
    assert parts[0].max() > 0 and not torch.equal(parts[0], parts[1]), "the noise moves the segments"


def test_a_mean_that_is_zero_everywhere_says_so():
    image = picture(32).abs() + 1
    network = explainable(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), image)
    network.model.get_parameter("1.weight").abs_().neg_()  # whatever is visible speaks against the class
    found = SmoothedMethod(partial(METHODS["lime"], samples=40), 4, 0.02)([network], image, FOUND_AT)
    assert not found.map.any() and found.warnings == ("lime: the map has the same value everywhere (0)",)


def count_rows(model, act):
    """How many pictures a network was asked about."""
    rows = []
    handle = model.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    act()
    handle.remove()
    return sum(rows)


def test_squares_take_turns_on_the_networks(networks):
    image, window, stride = picture(24), 9, 5
    drops, counts, number = torch.zeros(3, 24, 24), torch.zeros(3, 24, 24), 0
    for left in range(0, 20, stride):
        for top in range(0, 20, stride):
            covered = image.clone()
            covered[:, :, top : top + window, left : left + window] = 0
            number += 1  # the first picture that is asked about is the whole one
            with torch.no_grad():
                answers = networks[number % 2].model(torch.cat([image, covered]))[:, FOUND_AT]
            drops[:, top : top + window, left : left + window] += answers[0] - answers[1]
            counts[:, top : top + window, left : left + window] += 1
    method = partial(METHODS["occlusion"], window=window, stride=stride, batch_size=3)
    found = SmoothedMethod(method, 8, NOISE)(networks, image, FOUND_AT)
    assert close(found.map, drops / counts) and found.samples == 1


@pytest.mark.parametrize("name", ["occlusion", "rise", "score_cam"])
def test_two_equal_networks_give_the_map_of_one_at_the_same_cost(networks, name):
    image, one = picture(24), networks[0]
    alone = quick(name)(one, image, FOUND_AT)
    both = SmoothedMethod(quick(name), 8, NOISE)([one, one], image, FOUND_AT)
    assert torch.allclose(both.map, alone.map, atol=1e-4 * alone.map.abs().max().item())
    rows = count_rows(one.model, lambda: quick(name)(one, image, FOUND_AT))
    more = 3 if name == "score_cam" else 2  # each network's whole answer; the feature map of the second
    assert count_rows(one.model, lambda: SmoothedMethod(quick(name))([one, one], image, FOUND_AT)) == rows + more


@pytest.mark.parametrize("name", IN_ONE_PASS)
def test_one_pass_of_several_copies_gives_what_each_alone_gives(networks, monkeypatch, name):
    image = picture(24)
    smooth = SmoothedMethod(METHODS[name], 6, NOISE)
    found = smooth(networks, image, FOUND_AT)
    monkeypatch.setattr(smoothing, "PIXELS", 1)
    alone = smooth(networks, image, FOUND_AT)
    assert close(found.map, alone.map) and found.checks == pytest.approx(alone.checks, rel=1e-3, abs=1e-6)


def test_copies_go_one_by_one_where_a_network_may_mix_them():
    network = explainable(Untraceable(), picture(24))
    assert network.reason is not None
    rows = []
    handle = network.model.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    SmoothedMethod(METHODS["saliency"], 4, NOISE)([network], picture(24), FOUND_AT)
    handle.remove()
    assert rows == [1] * 4


def test_warnings_of_copies_are_said_once_with_their_count():
    torch.manual_seed(0)
    unrectified = explainable(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 5)), picture(8))
    found = SmoothedMethod(METHODS["guided_backprop"], 4, NOISE)([unrectified], picture(8), FOUND_AT)
    assert found.warnings == ("guided_backprop: the network has no ReLU, so the guided gradient is the plain gradient",)
    lines = [["flat", "off by 6.0%"], ["flat"], ["flat", "off by -1.2e-05%"]]
    assert merge_warnings(lines) == [
        "flat",
        "off by 6.0% (the first of 2 such among the 3 maps that were averaged)",
    ]
    assert merge_warnings([["odd"], [], ["odd"]]) == ["odd (2 such among the 3 maps that were averaged)"]


def test_a_class_token_is_weighed_for_each_copy():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
            self.token = nn.Parameter(torch.randn(1, 1, 8))

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1).relu()
            return self.head(x.mean(1))

    image = picture(16)
    torch.manual_seed(0)
    network = explainable(Tokens().eval(), image)
    found = SmoothedMethod(METHODS["lrp"], 3, NOISE)([network], image, FOUND_AT)
    each = [METHODS["lrp"](network, copy, FOUND_AT) for copy in noisy_copies(image, 3)]
    assert close(found.map, sum(one.map for one in each) / 3)
    assert found.checks["class_token"] == pytest.approx(sum(one.checks["class_token"] for one in each) / 3)


@pytest.mark.parametrize(("changes", "line"), [({"samples": 0}, "smoothing.samples=0"), ({"noise": -1.0}, "noise=-1")])
def test_settings_that_make_no_sense(changes, line):
    with pytest.raises(UserError, match=line):
        SmoothedMethod(METHODS["saliency"], **changes)


def test_an_image_of_another_shape_is_refused(networks):
    with pytest.raises(UserError, match=r"takes one image \(1, 3, H, W\)"):
        SmoothedMethod(METHODS["saliency"], 2, NOISE)(networks, picture(24)[0], FOUND_AT)
    assert interpretation.SmoothedMethod is SmoothedMethod


@pytest.mark.parametrize("name", ["saliency", "lrp", "integrated_gradients", "occlusion"])
def test_the_plain_map_beside_the_mean_is_that_of_the_first_network(networks, name):
    method, image = SmoothedMethod(quick(name), 3, NOISE), picture(24)
    found = method.with_plain(networks, image, FOUND_AT)
    assert found.map.equal(method(networks, image, FOUND_AT).map)
    if name in ("saliency", "lrp"):
        expected = quick(name)(networks[0], image, FOUND_AT).map
        assert close(found.plain, expected) and not close(found.plain, found.map)
    else:
        assert found.plain is None, "it would cost as much as the mean"
    assert SmoothedMethod(quick(name)).with_plain(networks[:1], image, FOUND_AT).plain is None
