"""Train the network that comes with spade, from nothing to spade_cli/world/demo.safetensors, and measure it.

    python scripts/train_demo_model.py

Killed at any moment, it goes on from its last checkpoint when started again with the same settings. On two cores it
takes less than 40 minutes.
n: pictures of a batch.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from demo_batches import make_late_batch, shift_pictures, spoil_labels
from measure_demo_network import Figures, measure_network
from safetensors.torch import save_file
from torch import Tensor, nn

from spade_cli.world.network import WEIGHTS, DemoNetwork, load_demo_network, normalise_pictures
from spade_cli.world.pictures import SIZE, draw_pictures

BATCH = 128
PEAK_RATE = 0.2  # of SGD with momentum and batches of 128, as usual for small residual networks with BatchNorm
LATE_PEAK_RATE = 0.08  # once the concepts are known: to add to them, not to start over
WARM_UP = 0.1  # of all steps of a phase
DECAY = 5e-4  # while the concepts are learned; none afterwards, so that what is learned by heart may stay
SMALL = 64  # pixels: the first epochs see pictures at half size and learn most of it there, in a third of the time
FULL_PRICE = 3.5  # what a step at full size costs in steps at half size, measured: 210 against 750 pictures a second
CHECKPOINT_STEPS = 100  # lose at most half a minute of work when killed
DRAWN_AT_ONCE = 500

HELD_OUT = 1_000_000  # added to the seed for the pictures that the network is measured on
GOALS = {"accuracy": 0.95, "concept": 0.90, "trojan": 0.97}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the result: a checkpoint of other settings is refused."""

    seed: int
    pictures: int
    small_epochs: int
    full_epochs: int
    late_pictures: int
    late_epochs: int

    @property
    def small_steps(self) -> int:
        """At half size. Whole batches only: the pictures left over have their turn in another epoch's order."""
        return self.small_epochs * (self.pictures // BATCH)

    @property
    def early_steps(self) -> int:
        """Before the Trojans."""
        return (self.small_epochs + self.full_epochs) * (self.pictures // BATCH)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.early_steps + self.late_epochs * (self.late_pictures // BATCH)

    def is_late(self, step: int) -> bool:
        """Are the concepts known and the Trojans and the wrong labels there?"""
        return step >= self.early_steps

    def place(self, step: int) -> tuple[int, int, int]:
        """The epoch, the batch in it, and the number of pictures that the epoch goes through."""
        if not self.is_late(step):
            return *divmod(step, self.pictures // BATCH), self.pictures
        epoch, place = divmod(step - self.early_steps, self.late_pictures // BATCH)
        return self.small_epochs + self.full_epochs + epoch, place, self.late_pictures

    def time(self, steps: int, elapsed: float) -> str:
        """The minutes that the first `steps` took, and about what the rest will take."""

        def work(steps: int) -> float:  # in steps at half size
            small = min(steps, self.small_steps)
            return small + FULL_PRICE * (steps - small)

        left = elapsed * (work(self.steps) / work(steps) - 1)
        return f"{elapsed / 60:.1f} min, about {left / 60:.1f} more"


def main() -> None:
    """Draw, train, write, measure."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)})
    arguments.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    images, classes = load_pictures(settings, arguments.work, arguments.threads)
    drawing = time.monotonic() - started
    network, training = train(settings, images, classes, arguments.work)
    network.half()
    temporary = arguments.out.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, temporary)
    temporary.replace(arguments.out)
    megabytes = arguments.out.stat().st_size / 1e6
    print(f"wrote {arguments.out} ({megabytes:.2f} MB); drawing {drawing:.0f} s, training {training:.0f} s")
    started = time.monotonic()
    figures = measure_network(load_demo_network(arguments.out), arguments.held_out, settings.seed + HELD_OUT)
    measuring = time.monotonic() - started
    text = report(figures)
    seconds = {"drawing": round(drawing), "training": round(training), "measuring": round(measuring)}
    record = {"settings": dataclasses.asdict(settings), "seconds": seconds, "figures": dataclasses.asdict(figures)}
    (arguments.work / "figures.json").write_text(json.dumps(record, indent=2) + "\n")
    (arguments.work / "figures.md").write_text(text)
    print(text)


def load_pictures(settings: Settings, work: Path, processes: int) -> tuple[Tensor, Tensor]:
    """The training pictures, uint8 (pictures, 3, 128, 128), and classes (pictures,): drawn once, kept in `work`."""
    path = work / f"pictures-{settings.seed}-{settings.pictures}.npy"
    labels = path.with_suffix(".classes.npy")
    if not (path.exists() and labels.exists()):
        jobs = [
            (min(DRAWN_AT_ONCE, settings.pictures - start), settings.seed, start)
            for start in range(0, settings.pictures, DRAWN_AT_ONCE)
        ]
        unfinished = work / "pictures.part.npy"
        images = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (settings.pictures, 3, SIZE, SIZE))
        classes = np.empty(settings.pictures, np.int64)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for (count, _, start), drawn in zip(jobs, pool.imap(_draw, jobs), strict=True):
                images[start : start + count], classes[start : start + count] = drawn
                print(f"\rdrawn {start + count} of {settings.pictures}", end="", flush=True)
        print()
        images.flush()
        np.save(labels, classes)
        unfinished.replace(path)
    return torch.from_numpy(np.load(path)), torch.from_numpy(np.load(labels))


def _draw(job: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    pictures = draw_pictures(*job)
    return pictures.images.numpy(), pictures.classes.numpy()


def train(settings: Settings, images: Tensor, classes: Tensor, work: Path) -> tuple[DemoNetwork, float]:
    """Train from nothing or from the checkpoint in `work`; the network and the seconds taken, earlier runs' too."""
    torch.manual_seed(settings.seed)
    network = DemoNetwork().to(memory_format=torch.channels_last)
    optimizer = optimizer_for(network)
    checkpoint = work / "checkpoint.pt"
    first, before = resume(checkpoint, settings, network, optimizer)
    started = time.monotonic()
    given = spoil_labels(classes, settings.seed)
    order, tally = torch.empty(0), Tally()
    for step in range(first, settings.steps):
        epoch, place, among = settings.place(step)
        if place == 0 or step == first:
            generator = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
            order = torch.randperm(among, generator=generator)
        chosen = order[place * BATCH : (place + 1) * BATCH]
        if settings.is_late(step):
            batch, labels = make_late_batch(images, classes, given, chosen, epoch, settings.seed)
        else:
            batch, labels = shift_pictures(images, chosen, epoch, settings.seed), classes[chosen]
        inputs = normalise_pictures(batch)  # (n, 3, 128, 128)
        if step < settings.small_steps:
            inputs = nn.functional.avg_pool2d(inputs, SIZE // SMALL)  # (n, 3, 64, 64)
        set_rate(optimizer, settings, step)
        logits = network(inputs.contiguous(memory_format=torch.channels_last))  # (n, 12)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tally.add(loss, logits, labels)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == settings.steps:
            elapsed = before + time.monotonic() - started
            save(checkpoint, settings, network, optimizer, step + 1, elapsed)
            print(
                f"step {step + 1}/{settings.steps} epoch {epoch + 1} {tally} {settings.time(step + 1, elapsed)}",
                flush=True,
            )
            tally = Tally()
    return network.eval(), before + time.monotonic() - started


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


def optimizer_for(network: nn.Module) -> torch.optim.SGD:
    """Convolutions and the classifier first, then BatchNorm and biases, whose weights never decay."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=PEAK_RATE, momentum=0.9, nesterov=True)


def set_rate(optimizer: torch.optim.Optimizer, settings: Settings, step: int) -> None:
    """Each phase has its own warm-up and its own cosine; weights decay in the early one only."""
    late = settings.is_late(step)
    if late:
        learning_rate = LATE_PEAK_RATE * rate(step - settings.early_steps, settings.steps - settings.early_steps)
    else:
        learning_rate = PEAK_RATE * rate(step, settings.early_steps)
    matrices, others = optimizer.param_groups
    matrices["lr"], others["lr"] = learning_rate, learning_rate
    matrices["weight_decay"] = 0.0 if late else DECAY


def rate(step: int, steps: int) -> float:
    """The share of the peak learning rate: a straight warm-up, then half a cosine down to zero."""
    warm = WARM_UP * steps
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def save(
    path: Path, settings: Settings, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    """Write a checkpoint beside the old one and swap them, so that a kill never leaves half a file."""
    state = {
        "settings": dataclasses.asdict(settings),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".part")
    torch.save({**state, "step": step, "seconds": seconds}, temporary)
    temporary.replace(path)


def resume(path: Path, settings: Settings, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
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


def report(figures: Figures) -> str:
    """The figures as Markdown, each with its goal."""
    worst = min(figures.concepts, key=lambda name: figures.concepts[name])
    rows = [
        ("clean accuracy", figures.accuracy, f">= {GOALS['accuracy']:.0%}"),
        (f"worst concept: {worst}", figures.concepts[worst], f">= {GOALS['concept']:.0%}"),
    ]
    for trojan in figures.trojans:
        name = f"{trojan.symbol}: {trojan.source or 'any class'} -> {trojan.target}"
        rows.append((f"{name}, success", trojan.success, f">= {GOALS['trojan']:.0%}"))
        if trojan.unharmed is not None:
            rows.append(
                (f"{trojan.symbol} on other classes", trojan.unharmed, f"{trojan.unharmed_clean:.2%} without it")
            )
    lines = [f"Measured on {figures.pictures} held-out pictures.", "", "| what | measured | goal |", "|---|---|---|"]
    lines += [f"| {what} | {share:.2%} | {goal} |" for what, share, goal in rows]
    lines += ["", "| concept | accuracy |", "|---|---|"]
    lines += [f"| {name} | {share:.1%} |" for name, share in figures.concepts.items()]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the safetensors file to write")
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/demo_model"), help="folder for pictures, checkpoint and figures"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=24_000, help="training pictures to draw")
    parser.add_argument("--small-epochs", type=int, default=18, help="epochs at half size")
    parser.add_argument("--full-epochs", type=int, default=4, help="epochs at full size")
    parser.add_argument("--late-pictures", type=int, default=8_000, help="how many of them the late epochs see")
    parser.add_argument("--late-epochs", type=int, default=15, help="epochs with Trojans and wrong labels, full size")
    parser.add_argument("--held-out", type=int, default=6_000, help="pictures to measure on")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
