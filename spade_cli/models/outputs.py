"""What a network's outputs mean: scores, or probabilities, which are turned back into scores or refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.models.classifier import AUTO
from spade_cli.networks.scores import Output

SUM_ERROR = 1e-3  # how far probabilities in half precision can be from a sum of 1
SAME = 1e-4  # how far probabilities may move when their last step is taken out and applied again
ENOUGH = 16  # values that all lie in [0, 1] before it is no coincidence: half of all scores are negative
# autograd's names of the last step, in front of steps that only reshape
LAST_STEPS = {"SoftmaxBackward": Output.SOFTMAX, "SigmoidBackward": Output.SIGMOID}
MEANS = ("Mean", "AdaptiveAvgPool", "AvgPool")
CLIPS = ("Relu", "Threshold")
RESHAPES = (
    *("Squeeze", "Unsqueeze", "View", "UnsafeView", "Reshape"),
    *("Clone", "Alias", "ToCopy", "Slice", "Select", "Clamp"),
)


@dataclass(frozen=True)
class SettledOutput:
    """A network whose outputs are scores, what they mean, and notes for the user."""

    network: nn.Module
    output: Output
    notes: tuple[str, ...] = ()


def settle_output(network: nn.Module, pictures: Sequence[Tensor], wanted: str, asked: str) -> SettledOutput:
    """Find out what the outputs mean; a softmax or sigmoid module at the end is taken out, in place.

    pictures: different ones, (1, 3, H, W) each. wanted: auto, softmax or sigmoid. Raises UserError where the outputs
    are probabilities that cannot be turned into scores, or mean something other than what is wanted.
    """
    if wanted not in (AUTO, *Output):
        raise UserError(f"model.output={wanted} is unknown; there are auto, softmax and sigmoid")
    last_step = _find_last_step(network, pictures[0])
    answers = _ask(network, pictures).double()  # (pictures, classes)
    classes = answers.shape[1]
    if last_step is not None:
        if wanted not in (AUTO, last_step):
            raise UserError(
                f"model.output={wanted}, but {asked} ends in a {last_step}; leave model.output out, or return scores"
            )
        if last_step is Output.SOFTMAX and classes == 1:
            raise UserError(f"{asked} takes the softmax of one output, which is always 1; return the score itself")
        _take_last_step_out(network, pictures, last_step, asked)
        note = f"its last step, a {last_step}, was taken out: what is explained are the scores before it"
        return SettledOutput(network, last_step, (note,))
    if classes == 1 and wanted == Output.SOFTMAX:
        raise UserError(f"{asked} has one output, and the softmax of one is always 1; set model.output=sigmoid")
    output = Output.SIGMOID if classes == 1 and wanted == AUTO else Output(wanted if wanted != AUTO else "softmax")
    return SettledOutput(network, output, _check_scores(network, pictures[0], answers, wanted, asked))


def _check_scores(network: nn.Module, picture: Tensor, answers: Tensor, wanted: str, asked: str) -> tuple[str, ...]:
    """Refuse answers (pictures, classes) that look like probabilities; a note where the user calls them scores."""
    if not bool(((answers >= 0) & (answers <= 1)).all()):
        return ()
    if answers.shape[1] > 1 and bool(((answers.sum(1) - 1).abs() < SUM_ERROR).all()):
        raise UserError(
            f"{asked} answers with probabilities, and every measure here starts from the scores before the softmax; "
            "take its softmax out"
        )
    few = answers.numel() < ENOUGH or len(torch.unique(answers)) <= 2
    if few or _is_clipped_below(network, picture):
        return ()
    found = f"{asked}: all its outputs lie between 0 and 1, as probabilities do, and every measure starts from scores"
    if wanted == AUTO:
        raise UserError(
            f"{found}; return the scores before them and set model.output=sigmoid, or, where they are scores, say "
            "what they mean: model.output=softmax or model.output=sigmoid"
        )
    return (f"{found}: if they are probabilities, return the scores before them",)


@torch.no_grad()
def _ask(network: nn.Module, pictures: Sequence[Tensor]) -> Tensor:
    """Answers (pictures, classes), one picture at a time."""
    return torch.cat([network(picture.clone()).detach().cpu() for picture in pictures])


def _find_last_step(network: nn.Module, picture: Tensor) -> Output | None:
    """Whether a softmax or a sigmoid makes the output; autograd's graph says so."""
    with torch.enable_grad():
        step = network(picture.clone().requires_grad_()).grad_fn
    while step is not None:
        name = step.name()
        if name.startswith("LogSoftmax"):  # its own softmax gives the same probabilities: these are scores already
            return None
        found = next((output for start, output in LAST_STEPS.items() if name.startswith(start)), None)
        if found is not None:
            return found
        if not name.removeprefix("torch::autograd::").startswith(RESHAPES):
            return None
        step = step.next_functions[0][0] if step.next_functions else None
    return None


def _is_clipped_below(network: nn.Module, picture: Tensor) -> bool:
    """Whether the output is a ReLU, or a mean of one as SqueezeNet's: then scores are never negative."""
    with torch.enable_grad():
        step = network(picture.clone().requires_grad_()).grad_fn
    while step is not None and step.name().startswith((*RESHAPES, *MEANS)):
        step = step.next_functions[0][0] if step.next_functions else None
    return step is not None and step.name().startswith(CLIPS)


def _take_last_step_out(network: nn.Module, pictures: Sequence[Tensor], last_step: Output, asked: str) -> None:
    """Replace the nn.Softmax or nn.Sigmoid that makes the output by an identity, in place."""
    kind = nn.Softmax if last_step is Output.SOFTMAX else nn.Sigmoid
    before = _ask(network, pictures).double()
    steps = [name for name, module in network.named_modules() if isinstance(module, kind) and name]
    for name in reversed(steps):
        parent, _, child = name.rpartition(".")
        holder, step = network.get_submodule(parent), network.get_submodule(name)
        setattr(holder, child, nn.Identity())
        after = _ask(network, pictures)
        if after.shape == before.shape and (last_step.probabilities(after) - before).abs().max() < SAME:
            return
        setattr(holder, child, step)
    also = ""
    if last_step is Output.SOFTMAX:
        also = "; where you cannot, return p.log(): scores up to a constant, whose gradients vanish as p nears 1"
    raise UserError(
        f"{asked} ends in a {last_step}, so its outputs are probabilities, and every measure here starts from scores; "
        f"return what goes into the {last_step}, and set model.output={last_step}{also}"
    )
