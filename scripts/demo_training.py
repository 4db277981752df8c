"""What all phases of the bundled network's training share: the optimizer, the rate, the tally, the checkpoint.

n: pictures of a batch.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

DECAY = 5e-4  # while the concepts are learned; none afterwards, so that what is learned by heart may stay
WARM_UP = 0.1  # of all steps of a phase


def optimizer_for(network: nn.Module, rate: float) -> torch.optim.SGD:
    """Convolutions and the classifier first, then BatchNorm and biases, whose weights never decay."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


def rate(step: int, steps: int) -> float:
    """The share of the peak learning rate: a straight warm-up, then half a cosine down to zero."""
    warm = WARM_UP * steps
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


@dataclasses.dataclass
class Tally:
    """Loss and right answers since the last line of progress."""

    loss: float = 0.0
    right: int = 0
    seen: int = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: its mean loss, logits (n, classes) and labels (n,)."""
        self.loss += loss.item() * len(labels)
        self.right += int((logits.argmax(1) == labels).sum())
        self.seen += len(labels)

    def __str__(self) -> str:
        return f"loss {self.loss / self.seen:.3f} right {self.right / self.seen:.3f}"


def save(path: Path, settings: Any, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, s: float) -> None:
    """Write a checkpoint beside the old one and swap them, so that a kill never leaves half a file.

    settings: a dataclass, what decides the result; s: the seconds spent so far.
    """
    state = {
        "settings": dataclasses.asdict(settings),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".part")
    torch.save({**state, "step": step, "seconds": s}, temporary)
    temporary.replace(path)


def resume(path: Path, settings: Any, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Load the checkpoint if there is one; the step to go on with and the seconds spent so far."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["settings"] != dataclasses.asdict(settings):
        raise SystemExit(f"{path} is of other settings ({state['settings']}): give those, another --work, or delete it")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"resumed at step {state['step']} after {state['seconds'] / 60:.1f} min")
    return state["step"], state["seconds"]
