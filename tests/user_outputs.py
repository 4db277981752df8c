"""Networks by their outputs: scores of classes or labels, probabilities of several makings, answers that change."""

import torch
from networks import small
from torch import nn
from torch.nn import functional as F
from user_networks import Net, seeded


def one_logit():
    """One score: yes above 0."""
    return seeded(lambda: Net(classes=1))


class EndsInSigmoid(Net):
    def finish(self, scores):
        return torch.sigmoid(scores)


def one_probability():
    """One output with a sigmoid of torch's functions inside."""
    return seeded(lambda: EndsInSigmoid(classes=1))


def one_probability_of_a_module():
    """One output with a sigmoid module at the end."""
    return seeded(lambda: nn.Sequential(Net(classes=1), nn.Sigmoid()))


def frozen_logit():
    """One score, and the backbone asks for no gradients."""
    model = one_logit()
    for parameter in (*model.stem.parameters(), *model.conv.parameters()):
        parameter.requires_grad_(False)
    return model


def many_labels():
    """Scores of twenty labels that stand alone."""
    return seeded(lambda: Net(classes=20))


def many_probabilities():
    """Twenty sigmoids as a module."""
    return seeded(lambda: nn.Sequential(Net(classes=20), nn.Sigmoid()))


class Clamped(Net):
    def finish(self, scores):
        return torch.sigmoid(scores).clamp(0.001, 0.999)


def clamped_probabilities():
    """Twenty sigmoids behind a numerical guard."""
    return seeded(lambda: Clamped(classes=20))


def clamped_probability():
    """One sigmoid behind a numerical guard."""
    return seeded(lambda: Clamped(classes=1))


class HalfTanh(Net):
    def finish(self, scores):
        return (scores.tanh() + 1) / 2


def probabilities_by_tanh():
    """Twenty probabilities that no sigmoid made."""
    return seeded(lambda: HalfTanh(classes=20))


def ends_in_softmax():
    """A softmax module at the end."""
    return seeded(lambda: nn.Sequential(Net(), nn.Softmax(1)))


class EndsInFunctionalSoftmax(Net):
    def finish(self, scores):
        return scores.softmax(1)


def ends_in_functional_softmax():
    """A softmax of torch's functions at the end."""
    return seeded(EndsInFunctionalSoftmax)


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = seeded(Net), small()

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
    return seeded(DropsOut)


class Trains(Net):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.train()
        return self.drop(super().forward(x))


def trains_in_forward():
    """A `forward` that calls `.train()`."""
    return seeded(Trains)


class Counts(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


def global_state():
    """Each call changes what the next one answers."""
    return seeded(Counts)


class BatchStatistics(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)

    def features(self, x):
        found = super().features(x)
        return self.norm(found) if len(found) > 1 else found


def batch_statistics():
    """A picture's answer depends on the others in its batch."""
    return seeded(BatchStatistics)


class NoPicture(Net):
    def forward(self, x):
        return super().forward(torch.zeros_like(x)) + 0 * x.sum()


def ignores_the_picture():
    """The answer does not depend on the picture."""
    return seeded(NoPicture)


class OneAtATime(Net):
    def features(self, x):
        return super().features(x).reshape(1, 8)


def one_picture_at_a_time():
    """It takes no batch."""
    return seeded(OneAtATime)
