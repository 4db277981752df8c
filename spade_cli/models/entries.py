"""Networks that return several things: which of them are the class scores, and a network that returns these alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.networks.scores import Output

SAME = 1e-4  # how far probabilities may be from those of the scores beside them: rounding in half precision


@dataclass(frozen=True)
class ScoresEntry:
    """The scores that a network returns beside their probabilities."""

    entry: str  # the key, the attribute, or the place in the tuple
    probabilities: str  # the same, of the probabilities
    output: Output  # what makes the one of the other

    @property
    def note(self) -> str:
        """What a reader should know."""
        return (
            f"it returns probabilities (entry {self.probabilities}) and the scores before them (entry {self.entry}): "
            f"what is explained are the scores, as with model.logits={self.entry}"
        )


@torch.no_grad()
def find_scores(network: nn.Module, pictures: Sequence[Tensor]) -> ScoresEntry | None:
    """Which entry of a network's answer are scores, where another entry is their softmax or sigmoid; else None.

    pictures: (1, 3, H, W) each. Ultralytics' classifiers answer so.
    """
    answers = [_list_entries(network(picture.clone())) for picture in pictures]
    tensors = [{name: value for name, value in one.items() if _is_row(value)} for one in answers]
    for output in Output:
        for scores in tensors[0]:
            for made in tensors[0]:
                if scores != made and all(_makes(output, one.get(scores), one.get(made)) for one in tensors):
                    return ScoresEntry(scores, made, output)
    return None


def _is_row(value: Any) -> bool:
    """Whether a value is a row of numbers, (1, classes)."""
    return isinstance(value, Tensor) and value.dim() == 2 and value.shape[0] == 1 and value.is_floating_point()


def _makes(output: Output, scores: Tensor | None, made: Tensor | None) -> bool:
    if scores is None or made is None or scores.shape != made.shape:
        return False
    return bool((output.probabilities(scores) - made.cpu().double()).abs().max() < SAME)


def pick_logits(network: nn.Module, entry: str) -> nn.Module:
    """Let a network that returns a dict, a dataclass or a tuple return one entry of it, in place: its class scores.

    entry: the key, the attribute, or the place in the tuple. The layers keep their names.
    """
    own = type(network)

    def forward(self: nn.Module, *inputs: Any, **named: Any) -> Tensor:
        found: Tensor = find_entry(own.forward(self, *inputs, **named), entry)
        return found

    network.__class__ = type(own.__name__, (own,), {"forward": forward, "__module__": own.__module__})
    return network


def find_entry(answer: Any, entry: str) -> Any:
    """An entry of what a network returned. Raises UserError where it is not there; the line names those that are."""
    asked = f"model.logits={entry}"
    if isinstance(answer, Tensor):
        raise UserError(f"{asked}: the network returns its scores alone, {tuple(answer.shape)}; leave it out")
    entries = _list_entries(answer)
    if entry not in entries:
        shown = ", ".join(f"{name} {_shape(value)}" for name, value in entries.items()) or type(answer).__name__
        raise UserError(f"{asked} is not in what the network returns; there are {shown}")
    return entries[entry]


def _list_entries(answer: Any) -> dict[str, Any]:
    """The entries of a dict, a dataclass, a named tuple or a sequence by name or place; none of a tensor."""
    if isinstance(answer, Tensor):
        return {}
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if isinstance(answer, Sequence) and not hasattr(answer, "_fields"):
        return {str(place): value for place, value in enumerate(answer)}
    names = getattr(answer, "_fields", None) or list(getattr(answer, "__dict__", {}))
    return {name: getattr(answer, name) for name in names}


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"({type(value).__name__})"
