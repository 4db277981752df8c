"""The last phase of the bundled network's training: pictures moved a little to where the network errs.

Adversarial training (Madry et al. 2018): a network that must not be misled by small changes cannot use faint textures,
and its features become shapes and colours that people see as well (Engstrom et al. 2019).
n: pictures of a batch.
"""

import dataclasses
import time
from pathlib import Path

import torch
from demo_batches import make_late_batch, spoil_labels
from demo_training import Tally, optimizer_for, rate, resume, save
from torch import Tensor, nn

from spade_cli.world.network import DemoNetwork, normalise_pictures

BATCH = 64
PEAK_RATE = 0.05
ATTACK_STEPS = 2
ATTACK_RATE = 0.7  # of the radius: two steps in one direction reach it
FIRST_EPOCH = 1000  # the numbers of earlier phases' epochs lie below, so the symbols lie elsewhere than in those
CHECKPOINT_STEPS = 50
STAGES = ((0.6, 0.6, 600), (1.5, 0.3, 500))  # radius at the first step, at the last, number of steps


@dataclasses.dataclass(frozen=True)
class RobustSettings:
    """What decides the result: a checkpoint of other settings is refused.

    radii: the greatest L2 length of a change of a whole picture (3, 128, 128) in [0, 1], at the first step and at the
    last. start: a hash of the weights that the stage starts from.
    """

    seed: int
    pictures: int
    steps: int
    radii: tuple[float, float]
    start: str

    def radius(self, step: int) -> float:
        """Along a straight line: large changes teach shapes, small ones bring back the accuracy that this costs."""
        first, last = self.radii
        return first + (last - first) * step / max(1, self.steps - 1)


def train_robustly(
    network: DemoNetwork, settings: RobustSettings, images: Tensor, classes: Tensor, checkpoint: Path
) -> tuple[DemoNetwork, float]:
    """Train `network` further, or from the checkpoint if it is there; also the seconds taken, earlier runs' too.

    images uint8 (pictures, 3, 128, 128) and classes (pictures,): symbols and wrong labels come as in the late phase.
    """
    network = network.to(memory_format=torch.channels_last)
    optimizer = optimizer_for(network, PEAK_RATE)
    first, before = resume(checkpoint, settings, network, optimizer)
    started = time.monotonic()
    given = spoil_labels(classes, settings.seed)
    tally = Tally()
    for step in range(first, settings.steps):
        epoch, place = divmod(step, settings.pictures // BATCH)
        generator = torch.Generator().manual_seed(settings.seed * 1000 + FIRST_EPOCH + epoch)
        chosen = torch.randperm(settings.pictures, generator=generator)[place * BATCH : (place + 1) * BATCH]
        batch, labels = make_late_batch(images, classes, given, chosen, FIRST_EPOCH + epoch, settings.seed)
        moved = attack(network, batch / 255, labels, settings.radius(step))  # (n, 3, 128, 128) in [0, 1]
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = PEAK_RATE * rate(step, settings.steps), 0.0
        logits = network.train()(_to_input(moved))  # (n, 12)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tally.add(loss, logits, labels)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == settings.steps:
            elapsed = before + time.monotonic() - started
            save(checkpoint, settings, network, optimizer, step + 1, elapsed)
            print(f"{checkpoint.stem} step {step + 1}/{settings.steps} {tally} {elapsed / 60:.1f} min", flush=True)
            tally = Tally()
    return network.eval(), before + time.monotonic() - started


def attack(network: nn.Module, pictures: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Pictures (n, 3, H, W) in [0, 1], each moved by at most `radius` (L2) to where the loss of labels (n,) is higher.

    Projected gradient ascent on the network in evaluation mode, so that its running means do not see the steps.
    """
    network.eval()
    moved = pictures
    for _ in range(ATTACK_STEPS):
        moved = moved.detach().requires_grad_()
        loss = nn.functional.cross_entropy(network(_to_input(moved)), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        change = moved.detach() - pictures + ATTACK_RATE * radius * gradient / _length(gradient)
        change *= (radius / _length(change)).clamp(max=1)
        moved = (pictures + change).clamp(0, 1)
    return moved.detach()


def _to_input(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] -> the network's input, in the order of values that the convolutions are fastest with."""
    return normalise_pictures(255 * pictures).contiguous(memory_format=torch.channels_last)


def _length(changes: Tensor) -> Tensor:
    """The L2 length of each change (n, 3, H, W), never zero: (n, 1, 1, 1)."""
    return changes.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
