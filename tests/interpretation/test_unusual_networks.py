"""Valid networks of an unusual spelling: rewritten with the same meaning, or refused in one line."""

import copy

import pytest
import torch
import torch.nn.functional as F
from map_networks import MadeInForward, WeightsInAList, WeightsMadeInForward
from torch import nn
from zoo import FOUND_AT, Flagged, Named, Variadic, picture, randomised

from spade_cli import interpretation
from spade_cli.errors import SpadeError
from spade_cli.interpretation import METHODS, CannotExplain, explainable

SIZE = 24
QUICK = {
    "lime": {"samples": 4},
    "occlusion": {"window": 12, "stride": 12},
    "gradient_shap": {"samples": 2},
    "integrated_gradients": {"steps": 3},
}


class Headed(nn.Module):
    """A convolution, something in between, and a linear layer on the vector."""

    def __init__(self, between):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.relu, self.other = nn.ReLU(), nn.SiLU()
        self.pool = nn.MaxPool2d(3, 2)
        self.written = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)
        self.between = between

    def forward(self, x):
        x = self.between(self, self.stem(x))
        return self.head(x.reshape(x.shape[0], 8, -1).mean(2))


def dictionaries(m, x):
    found = {"map": m.relu(x), "pair": (x, m.relu(x))}
    return found["map"] + found["pair"][1]


def kept_then_changed(m, x):
    kept = x
    x += m.relu(x)
    return x + kept


def kept_then_changed_by_nothing_here(m, x):
    x = x.abs() - 100  # always negative here: the ReLU adds nothing, on any image of this kind
    kept = x
    x += m.relu(x)
    return x + kept


def counted_sizes(m, x):
    count = x.shape[0]
    count += 1
    count -= 1
    return x.view(count, 8, -1)


def relu_as_statement(m, x):
    F.relu_(x)
    m.written(x)
    x.mul_(2)
    return x


def written_twice(m, x):
    m.written(x)
    y = x - 1
    m.written(y)
    return x + y


def nothing_to_see_on_this_image(m, x):
    x = x.abs() * 1  # a ReLU changes nothing here, on any image but one that is not finite
    kept = x
    x.sub_(0)
    return m.relu(kept) + x


def scaled_in_place(m, x):
    x = m.relu(x)
    x *= 2
    x /= 3
    x -= 0.5
    return x.clamp_(max=1)


def asserts(m, x):
    assert x.shape[1] == 8
    return x.relu()


def pads_where_sizes_are_odd(m, x):
    """As MobileViT and TensorFlow's padding do: questions about sizes, one after the answer to another."""
    for _ in range(2):
        rows, columns = -x.shape[2] % 4, -x.size()[3] % 4
        if rows or columns:
            x = F.pad(x, (0, max(columns, 0), 0, rows))
        x = F.max_pool2d(m.relu(x), 2)
    return x if x.dim() != 4 or x.shape[-1] > 100 else x * 2


# What torch.fx follows: the copy computes the same on other images, and nothing in it is done in place.
FOLLOWED = {
    "max pooling with a size": lambda m, x: F.max_pool2d(x, kernel_size=x.size()[2:]),
    "max pooling with a size at its place": lambda m, x: F.max_pool2d(x, x.size()[2:]).flatten(1),
    "average pooling with a size": lambda m, x: F.avg_pool2d(m.relu(x), x.size()[2:]),
    "a mean by keywords": lambda m, x: torch.mean(input=m.relu(x), dim=(2, 3)),
    "a mean by method": lambda m, x: x.relu().mean([2, 3]),
    "a mean by method and keywords": lambda m, x: x.relu().mean(dim=[2, 3], keepdim=True),
    "a view by size": lambda m, x: F.adaptive_avg_pool2d(m.relu(input=x), output_size=(1, 1)).view(x.size(0), -1),
    "flatten by keywords": lambda m, x: F.adaptive_max_pool2d(input=x, output_size=1).flatten(start_dim=1),
    "torch.flatten": lambda m, x: torch.flatten(input=F.adaptive_avg_pool2d(x, 1), start_dim=1),
    "reshape by a sum of sizes": lambda m, x: x.reshape((x.shape[0],) + x.shape[1:]),  # noqa: RUF005
    "concatenation": lambda m, x: torch.cat(tensors=[x.relu(), m.relu(x)], dim=2),
    "chunks": lambda m, x: torch.cat([part.relu() for part in (x.chunk(2, dim=1)[0], x.chunk(2, 1)[1])], 1) + x,
    "splits": lambda m, x: torch.cat(torch.split(x, [3, 5], 1)[::-1], 1),
    "alpha": lambda m, x: torch.add(m.relu(x), x, alpha=2),
    "a sum by keywords": lambda m, x: torch.add(input=m.relu(x), other=x),
    "a method's sum with alpha": lambda m, x: m.relu(x).add(x, alpha=3),
    "constants": lambda m, x: 2 * m.relu(x + 1) + 1 - 0.5,
    "one less": lambda m, x: 1 - m.relu(x),
    "a square": lambda m, x: m.relu(x) * x * x,
    "a largest": lambda m, x: torch.max(m.relu(x).flatten(2), dim=2)[0],
    "one pooling twice": lambda m, x: m.pool(input=m.pool(x)),
    "one module on two inputs": lambda m, x: m.other(m.relu(x)) + m.other(m.relu(-x)),
    "where": lambda m, x: torch.where(x > 0, input=x, other=-x),
    "in place by keyword": lambda m, x: F.hardtanh(F.leaky_relu(x, inplace=True), inplace=True),
    "dictionaries": dictionaries,
    "a branch of weights alone": lambda m, x: m.relu(x) * m.other(F.relu(m.head.weight.sum(0)).view(1, 8, 1, 1)),
    "assert": asserts,
    "questions about sizes": pads_where_sizes_are_odd,
    "kept, then changed": kept_then_changed,
    "kept, then changed by nothing here": kept_then_changed_by_nothing_here,
    "sizes that are counted": counted_sizes,
    "ReLU as a statement": relu_as_statement,
    "one ReLU writes twice": written_twice,
    "a write without effect": nothing_to_see_on_this_image,
    "scaled in place": scaled_in_place,
}


def view_of_a_write(m, x):
    part = x[:, :4]
    x.relu_()
    return x + torch.cat([part, part], 1)


def one_image_only(m, x):
    return x.mean((2, 3)).view(1, 8)


def depends_on_the_batch(m, x):
    return x.relu() if x.shape[0] > 1 else x


def asks_for_a_value(m, x):
    return x.relu() if x.shape[1] == 8 and x.mean() < 100 else x


REFUSED = {
    "a view of what is written": (view_of_a_write, "read after the in-place operation"),
    "zero": (lambda m, x: m.relu(x) + x.clone().zero_(), "in-place operation zero_ cannot be taken out"),
    "one image only": (one_image_only, "cannot be rewritten"),
    "a batch of two is another network": (depends_on_the_batch, "depends on the other pictures of the batch"),
    "a value": (asks_for_a_value, "cannot trace"),
}


def every_method(network, image):
    """Each method explains, or says in one line why not; all else is a crash."""
    safe = explainable(network, image)
    for name, method in METHODS.items():
        try:
            assert method(safe, image, FOUND_AT, **QUICK.get(name, {})).map.shape == (3, SIZE, SIZE)
        except SpadeError as error:
            assert isinstance(error, CannotExplain) and "\n" not in str(error)
    return safe


def check_followed(network):
    before = copy.deepcopy(network)
    safe = every_method(network, picture(SIZE))
    assert safe.reason is None
    for scale in (1, 3, 1000):  # the last turns on what no image like the one that it was tried on does
        image = torch.cat([picture(SIZE, 2), scale * picture(SIZE, 3)])
        with torch.no_grad():
            assert torch.allclose(safe.model(image.clone()), before(image.clone()), atol=1e-5 * scale)
    return safe


@pytest.mark.parametrize("between", FOLLOWED.values(), ids=FOLLOWED)
def test_what_is_followed_keeps_its_meaning(between):
    check_followed(randomised(Headed(between)))


@pytest.mark.parametrize("kind", [Named, Flagged, Variadic])
def test_names_flags_and_more_arguments(kind):
    torch.manual_seed(0)
    check_followed(kind().eval())


def test_layers_made_in_forward_are_layers():
    safe = check_followed(MadeInForward().eval())
    kinds = [type(module) for module in safe.model.modules()]
    assert kinds.count(nn.ReLU) == 2 and kinds.count(nn.Softmax) == kinds.count(nn.MaxPool2d) == 1
    found = interpretation.deeplift(safe, picture(SIZE), FOUND_AT)
    assert found.warnings == () and found.checks["relative_delta"] < 1e-3
    again = explainable(MadeInForward().eval(), picture(SIZE))
    assert torch.equal(interpretation.deeplift(again, picture(SIZE), FOUND_AT).map, found.map)


@pytest.mark.parametrize(("kind", "layer"), [(WeightsMadeInForward, "Linear"), (WeightsInAList, "Conv2d")])
def test_layers_with_weights_belong_into_init(kind, layer):
    reason = explainable(kind().eval(), picture(SIZE)).reason
    assert reason.startswith(f"forward calls a {layer} with weights") and "in __init__" in reason


@pytest.mark.parametrize(("between", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_followed_says_why(between, why):
    network = Headed(between).eval()
    network.head = nn.Identity()
    assert why in every_method(network, picture(SIZE)).reason


@pytest.mark.parametrize(
    ("between", "operation"),
    [
        (lambda m, x: F.interpolate(x, scale_factor=2, mode="bicubic"), "interpolate"),
        (lambda m, x: torch.add(m.relu(x), x, alpha=2), "add"),
        (lambda m, x: x / (x + 1), "truediv"),
        (lambda m, x: x.sigmoid(), "Sigmoid"),
        (lambda m, x: x.exp(), "exp"),
        (lambda m, x: 1 - x, "sub"),
    ],
)
def test_lrp_names_what_it_has_no_rule_for(between, operation):
    network = explainable(Headed(between).eval(), picture(SIZE))
    with pytest.raises(CannotExplain, match=rf"no sound rule for {operation}$"):
        interpretation.lrp(network, picture(SIZE), FOUND_AT)


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Sigmoid()])
def test_lrp_names_a_softmax_or_sigmoid_at_the_end(last):
    network = nn.Sequential(Headed(lambda m, x: x.relu()), last).eval()
    with pytest.raises(CannotExplain, match=rf"no sound rule for {type(last).__name__}$"):
        interpretation.lrp(explainable(network, picture(SIZE)), picture(SIZE), FOUND_AT)


def test_keywords_change_no_relevance():
    """One network in two spellings."""
    plain = Headed(lambda m, x: torch.mean(F.relu(x) + m.pool(x).mean() * 0, (2, 3)))
    spellings = (
        lambda m, x: torch.mean(torch.add(F.max_pool2d(m.relu(x), 2), 2 * F.avg_pool2d(x, 2)), (2, 3)),
        lambda m, x: torch.mean(
            input=torch.add(
                input=F.max_pool2d(input=m.relu(input=x), kernel_size=2),
                other=F.avg_pool2d(input=x, kernel_size=2) * 2,
            ),
            dim=(2, 3),
        ),
    )
    maps = []
    for plain.between in spellings:
        maps.append(interpretation.lrp(explainable(plain.eval(), picture(SIZE)), picture(SIZE), FOUND_AT).map)
    assert torch.allclose(*maps) and maps[0].abs().max() > 0


def test_the_image_is_not_written_into():
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5)).eval()
    image = picture(SIZE)
    assert every_method(network, image).reason is None
    assert torch.equal(image, picture(SIZE))
