"""What a network's outputs mean: scores of classes or labels, or probabilities already, which are undone or refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.networks.scores import Output

AUTO = "auto"
SUM_ERROR = 1e-3  # how far probabilities in half precision can be from a sum of 1
SAME = 1e-4  # how far probabilities may move when their last step is taken out and made again
ENOUGH = 16  # values that all lie in [0, 1] before it is no coincidence: half of all scores are negative
# autograd's names of the last step, through steps that only reshape
LAST_STEPS = {"SoftmaxBackward": Output.SOFTMAX, "SigmoidBackward": Output.SIGMOID}
MEANS = ("Mean", "AdaptiveAvgPool", "AvgPool")
CLIPS = ("Relu", "Threshold")
RESHAPES = (
    "Squeeze",
    "Unsqueeze",
    "View",
    "UnsafeView",
    "Reshape",
    "Clone",
    "Alias",
    "ToCopy",
    "Slice",
    "Select",
    "Clamp",
)


@dataclass(frozen=True)
class Settled:
    """What was found out about a network's outputs."""

    network: nn.Module  # whose outputs are scores
    output: Output
    notes: tuple[str, ...] = ()


def settle_output(network: nn.Module, pictures: Sequence[Tensor], wanted: str, asked: str) -> Settled:
    """The network with scores as its outputs, and what they mean; changed in place where a last step is taken out.

    pictures: (1, 3, H, W) each, different ones. wanted: auto, softmax or sigmoid. Raises UserError where the outputs
    are probabilities whose making cannot be undone, or not what was asked for.
    """
    if wanted not in (AUTO, *Output):
        raise UserError(f"model.output={wanted} is unknown; there are auto, softmax and sigmoid")
    made_by = _last_step(network, pictures[0])
    answers = torch.cat(_answers(network, pictures)).double()  # (pictures, classes)
    classes = answers.shape[1]
    if made_by is not None:
        _check_wanted(wanted, made_by, asked)
        if made_by is Output.SOFTMAX and classes == 1:
            raise UserError(f"{asked} takes the softmax of one output, which is always 1; return the score itself")
        _take_last_step_out(network, pictures, made_by, asked)
        note = f"its last step, a {made_by}, was taken out: what is explained are the scores before it"
        return Settled(network, made_by, (note,))
    if classes == 1 and wanted == Output.SOFTMAX:
        raise UserError(f"{asked} has one output, and the softmax of one is always 1; set model.output=sigmoid")
    within = bool(((answers >= 0) & (answers <= 1)).all())
    if classes > 1 and within and bool(((answers.sum(1) - 1).abs() < SUM_ERROR).all()):
        raise UserError(
            f"{asked} answers with probabilities, and every measure here starts from the scores before the softmax; "
            "take its softmax out"
        )
    output = Output.SIGMOID if classes == 1 and wanted == AUTO else Output(wanted if wanted != AUTO else "softmax")
    if within and answers.numel() >= ENOUGH and len(answers.unique()) > 2 and not _clipped_below(network, pictures[0]):
        found = (
            f"{asked}: all its outputs lie between 0 and 1, as probabilities do, and every measure starts from scores"
        )
        if wanted == AUTO:
            raise UserError(
                f"{found}; return the scores before them and set model.output=sigmoid, or, where they are scores, say "
                "what they mean: model.output=softmax or model.output=sigmoid"
            )
        return Settled(network, output, (f"{found}: if they are probabilities, return the scores before them",))
    return Settled(network, output)


def _check_wanted(wanted: str, found: Output, asked: str) -> None:
    if wanted not in (AUTO, found):
        raise UserError(
            f"model.output={wanted}, but {asked} ends in a {found}; leave model.output out, or return scores"
        )


@torch.no_grad()
def _answers(network: nn.Module, pictures: Sequence[Tensor]) -> list[Tensor]:
    return [network(picture.clone()).detach().cpu() for picture in pictures]


def _last_step(network: nn.Module, picture: Tensor) -> Output | None:
    """Whether a softmax or a sigmoid makes the output; it is read off the graph that autograd keeps."""
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


def _clipped_below(network: nn.Module, picture: Tensor) -> bool:
    """Whether the output is a ReLU, or a mean of one, as SqueezeNet's: that no score is negative says nothing then."""
    with torch.enable_grad():
        step = network(picture.clone().requires_grad_()).grad_fn
    while step is not None and step.name().startswith((*RESHAPES, *MEANS)):
        step = step.next_functions[0][0] if step.next_functions else None
    return step is not None and step.name().startswith(CLIPS)


def _take_last_step_out(network: nn.Module, pictures: Sequence[Tensor], made_by: Output, asked: str) -> None:
    """Put an identity in the place of the nn.Softmax or nn.Sigmoid that makes the output."""
    kind = nn.Softmax if made_by is Output.SOFTMAX else nn.Sigmoid
    before = torch.cat(_answers(network, pictures)).double()
    refusal = UserError(
        f"{asked} ends in a {made_by}, so its outputs are probabilities, and every measure here starts from scores; "
        f"return what goes into the {made_by}, and set model.output={made_by}"
    )
    steps = [name for name, module in network.named_modules() if isinstance(module, kind) and name]
    for name in reversed(steps):
        parent, _, child = name.rpartition(".")
        holder, step = network.get_submodule(parent), network.get_submodule(name)
        setattr(holder, child, nn.Identity())
        after = torch.cat(_answers(network, pictures))
        if after.shape == before.shape and (made_by.probabilities(after) - before).abs().max() < SAME:
            return
        setattr(holder, child, step)
    raise refusal
