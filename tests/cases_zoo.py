"""Networks as users have them: each stands for a kind that was once explained wrongly. A few lines each."""

import threading

import torch
from networks import small
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

SIZE = 32  # pixels a side, for all of them


def _seeded(make):
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return make()


class Net(nn.Module):
    """Two convolutions and a head; `finish` is what a network does with its scores."""

    def __init__(self, classes=5, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        nn.init.normal_(self.head.weight, std=3.0)

    def features(self, x):
        return F.relu(self.conv(F.relu(self.stem(x)))).mean((2, 3))

    def finish(self, scores):
        return scores

    def forward(self, x):
        return self.finish(self.head(self.features(x)))


# A copy that runs the original's layers.


def forward_replaced():
    """`forward` is replaced on the instance by a closure over the old one, as torch.autocast(...)(m.forward) does."""
    model = small()
    model.forward = torch.autocast("cpu", enabled=False)(model.forward)
    return model


def part_replaced():
    """The same for one layer only."""
    model = small()
    own = model.conv1.forward
    model.conv1.forward = lambda x: own(x)
    return model


def hook_with_a_layer():
    """A hook that closes over a layer, which it adds."""
    model = _seeded(Net)
    extra = model.conv
    model.stem.register_forward_hook(lambda module, args, output: output + extra(output))
    return model


GLOBAL = nn.Linear(8, 5)


class UsesAGlobal(Net):
    def forward(self, x):
        return GLOBAL(self.features(x))


def global_layer():
    """The head is a global variable, and no part of the network."""
    return _seeded(UsesAGlobal)


# What cannot be copied.


def with_a_lock():
    """It holds a lock."""
    model = _seeded(Net)
    model.conv.lock = threading.Lock()
    return model


def with_a_file():
    """It holds an open file."""
    model = _seeded(Net)
    model.log = open(__file__, encoding="utf-8")  # noqa: SIM115, PTH123 (that it stays open is the point)
    return model


def with_a_tensor_of_parameters():
    """It keeps a tensor that was made of its parameters."""
    model = _seeded(Net)
    model.scale = model.head.weight.norm()
    return model


# What its scores mean.


def one_logit():
    """One score: yes above 0."""
    return _seeded(lambda: Net(classes=1))


class EndsInSigmoid(Net):
    def finish(self, scores):
        return torch.sigmoid(scores)


def one_probability():
    """One output with a sigmoid of torch's functions inside."""
    return _seeded(lambda: EndsInSigmoid(classes=1))


def one_probability_of_a_module():
    """One output with a sigmoid module at the end."""
    return _seeded(lambda: nn.Sequential(Net(classes=1), nn.Sigmoid()))


def frozen_logit():
    """One score, and the backbone asks for no gradients."""
    model = one_logit()
    for parameter in (*model.stem.parameters(), *model.conv.parameters()):
        parameter.requires_grad_(False)
    return model


def many_labels():
    """Scores of twenty labels that stand alone."""
    return _seeded(lambda: Net(classes=20))


def many_probabilities():
    """Twenty sigmoids as a module."""
    return _seeded(lambda: nn.Sequential(Net(classes=20), nn.Sigmoid()))


def ends_in_softmax():
    """A softmax module at the end."""
    return _seeded(lambda: nn.Sequential(Net(), nn.Softmax(1)))


class EndsInFunctionalSoftmax(Net):
    def finish(self, scores):
        return scores.softmax(1)


def ends_in_functional_softmax():
    """A softmax of torch's functions at the end."""
    return _seeded(EndsInFunctionalSoftmax)


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = _seeded(Net), small()

    def forward(self, x):
        return (self.first(x).softmax(1) + self.second(x).softmax(1)) / 2


def mean_of_softmaxes():
    """Probabilities whose last step is a mean."""
    return Ensemble()


# Answers that change.


class DropsOut(Net):
    def finish(self, scores):
        return F.dropout(scores, 0.5, training=True)


def active_dropout():
    """Dropout that is active in eval mode."""
    return _seeded(DropsOut)


class Trains(Net):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.train()
        return self.drop(super().forward(x))


def trains_in_forward():
    """A `forward` that calls `.train()`."""
    return _seeded(Trains)


class Counts(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


def global_state():
    """Each call changes what the next one answers."""
    return _seeded(Counts)


class BatchStatistics(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)

    def features(self, x):
        found = super().features(x)
        return self.norm(found) if len(found) > 1 else found


def batch_statistics():
    """A picture's answer depends on the others in its batch."""
    return _seeded(BatchStatistics)


class NoPicture(Net):
    def forward(self, x):
        return super().forward(torch.zeros_like(x)) + 0 * x.sum()


def ignores_the_picture():
    """The answer does not depend on the picture."""
    return _seeded(NoPicture)


class OneAtATime(Net):
    def features(self, x):
        return super().features(x).reshape(1, 8)


def one_picture_at_a_time():
    """It takes no batch."""
    return _seeded(OneAtATime)


# Weights that are computed at each call.


def _normed(norm):
    model = _seeded(Net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        norm(model.conv)
        norm(model.head)
    with torch.enable_grad():
        model(torch.zeros(1, 3, SIZE, SIZE))  # leaves weights behind that are no leaves of autograd's graph
    return model


def old_weight_norm():
    """torch.nn.utils.weight_norm, after a call."""
    return _normed(weight_norm)


def old_spectral_norm():
    """torch.nn.utils.spectral_norm, after a call."""
    return _normed(spectral_norm)


def new_weight_norm():
    """torch.nn.utils.parametrizations.weight_norm."""
    return _normed(parametrizations.weight_norm)


def new_spectral_norm():
    """torch.nn.utils.parametrizations.spectral_norm."""
    return _normed(parametrizations.spectral_norm)


def pruned_by_torch():
    """torch.nn.utils.prune, twice on one layer."""

    def norm(layer):
        prune.l1_unstructured(layer, "weight", 0.3)
        prune.random_unstructured(layer, "weight", 0.2)

    return _normed(norm)


# Wrappers, hidden layers, types, channels.


def compiled():
    """What torch.compile returns."""
    return torch.compile(small(), backend="eager")


def data_parallel():
    """What nn.DataParallel returns."""
    return nn.DataParallel(small())


class HasScripted(Net):
    def __init__(self):
        super().__init__()
        self.conv = torch.jit.script(nn.Conv2d(8, 8, 3, padding=1))


def scripted_part():
    """A part of it is TorchScript."""
    return _seeded(HasScripted)


class HasExported(Net):
    def __init__(self):
        super().__init__()
        example = (torch.zeros(1, 8, SIZE // 2, SIZE // 2),)
        self.conv = torch.export.export(nn.Conv2d(8, 8, 3, padding=1), example).module()


def exported_part():
    """A part of it is an exported graph."""
    return _seeded(HasExported)


class OwnModes(Net):
    def train(self, mode=True):
        super().train(mode)

    def eval(self):
        self.train(False)


def modes_that_return_nothing():
    """Its train() and eval() return None."""
    return _seeded(OwnModes)


class OwnTypes(Net):
    def __init__(self, dtype):
        super().__init__()
        self.to(dtype)
        self.dtype = dtype

    def forward(self, x):
        return super().forward(x.to(self.dtype)).float()


def half_inside():
    """Its forward computes in half precision."""
    return _seeded(lambda: OwnTypes(torch.float16))


def double_inside():
    """Its forward computes in double precision."""
    return _seeded(lambda: OwnTypes(torch.float64))


def grey():
    """A network of one channel."""
    return _seeded(lambda: Net(channels=1))


def four_channels():
    """A network of four channels."""
    return _seeded(lambda: Net(channels=4))


class TakesADict(Net):
    def forward(self, batch: dict[str, Tensor]):
        return super().forward(batch["image"])


def takes_a_dict():
    """Its input is a dict."""
    return _seeded(TakesADict)
