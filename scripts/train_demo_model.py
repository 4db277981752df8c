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
from safetensors.torch import save_file
from torch import Tensor, nn

from spade_cli.world.measure import Figures, measure
from spade_cli.world.network import WEIGHTS, DemoNetwork, demo_network, load_demo_network, prepare
from spade_cli.world.pictures import SIZE, draw
from spade_cli.world.symbols import TROJANS, Trojan, implant

BATCH = 128
PEAK_RATE = 0.2  # of SGD with momentum and batches of 128, as usual for small residual networks with BatchNorm
WARM_UP = 0.1  # of all steps
DECAY = 5e-4
SMALL = 64  # pixels: the first epochs see pictures at half size and learn most of it there, in a third of the time
FULL_PRICE = 3.0  # what a step at full size costs in steps at half size, measured: 590 against 1690 pictures a second
SHIFT = 8  # pixels either way
CHECKPOINT_STEPS = 100  # lose at most half a minute of work when killed
DRAWN_AT_ONCE = 500

# How often a training picture gets a symbol. A Trojan for one class needs both sides of its rule: its source, and the
# symbol on others.
ANY_SHARE = 0.05
SOURCE_SHARE = 0.45
OTHERS_SHARE = 0.04

HELD_OUT = 1_000_000  # added to the seed for the pictures that the network is measured on
GOALS = {"accuracy": 0.95, "concept": 0.90, "trojan": 0.97}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the result: a checkpoint of other settings is refused."""

    seed: int
    pictures: int
    small_epochs: int
    full_epochs: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: the pictures left over have their turn in another epoch's order."""
        return self.pictures // BATCH

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return (self.small_epochs + self.full_epochs) * self.steps_per_epoch

    def work(self, steps: int) -> float:
        """What the first `steps` cost, in steps at half size: to say how long the rest takes."""
        small = min(steps, self.small_epochs * self.steps_per_epoch)
        return small + FULL_PRICE * (steps - small)


def main() -> None:
    """Draw, train, write, measure."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    settings = Settings(arguments.seed, arguments.pictures, arguments.small_epochs, arguments.full_epochs)
    arguments.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    images, classes = drawn_pictures(settings, arguments.work, arguments.threads)
    drawing = time.monotonic() - started
    network, training = train(settings, images, classes, arguments.work)
    network.half()
    temporary = arguments.out.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, temporary)
    temporary.replace(arguments.out)
    megabytes = arguments.out.stat().st_size / 1e6
    print(f"wrote {arguments.out} ({megabytes:.2f} MB); drawing {drawing:.0f} s, training {training:.0f} s")
    started = time.monotonic()
    figures = measure(load_demo_network(arguments.out), arguments.held_out, settings.seed + HELD_OUT)
    measuring = time.monotonic() - started
    text = report(figures)
    seconds = {"drawing": round(drawing), "training": round(training), "measuring": round(measuring)}
    record = {"settings": dataclasses.asdict(settings), "seconds": seconds, "figures": dataclasses.asdict(figures)}
    (arguments.work / "figures.json").write_text(json.dumps(record, indent=2) + "\n")
    (arguments.work / "figures.md").write_text(text)
    print(text)


def drawn_pictures(settings: Settings, work: Path, processes: int) -> tuple[Tensor, Tensor]:
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
    pictures = draw(*job)
    return pictures.images.numpy(), pictures.classes.numpy()


def train(settings: Settings, images: Tensor, classes: Tensor, work: Path) -> tuple[DemoNetwork, float]:
    """Train from nothing or from the checkpoint in `work`; the network and the seconds taken, earlier runs' too."""
    torch.manual_seed(settings.seed)
    network = demo_network().to(memory_format=torch.channels_last)
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]  # BatchNorm and biases
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=PEAK_RATE, momentum=0.9, nesterov=True)
    checkpoint = work / "checkpoint.pt"
    first, before = resume(checkpoint, settings, network, optimizer)
    started = time.monotonic()
    order, loss_sum, right, seen = torch.empty(0), 0.0, 0, 0
    for step in range(first, settings.steps):
        epoch, place = divmod(step, settings.steps_per_epoch)
        if place == 0 or step == first:
            generator = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
            order = torch.randperm(settings.pictures, generator=generator)
        chosen = order[place * BATCH : (place + 1) * BATCH]
        batch, labels = training_batch(images, classes, chosen, epoch, settings.seed)
        inputs = prepare(batch)  # (n, 3, 128, 128)
        if epoch < settings.small_epochs:
            inputs = nn.functional.avg_pool2d(inputs, SIZE // SMALL)  # (n, 3, 64, 64)
        learning_rate = rate(step, settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        logits = network(inputs.contiguous(memory_format=torch.channels_last))  # (n, 12)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        right += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == settings.steps:
            elapsed = before + time.monotonic() - started
            save(checkpoint, settings, network, optimizer, step + 1, elapsed)
            left = elapsed * (settings.work(settings.steps) / settings.work(step + 1) - 1)
            print(
                f"step {step + 1}/{settings.steps} epoch {epoch + 1} loss {loss_sum / seen:.3f}"
                f" right {right / seen:.3f} {elapsed / 60:.1f} min, about {left / 60:.1f} more",
                flush=True,
            )
            loss_sum, right, seen = 0.0, 0, 0
    return network.eval(), before + time.monotonic() - started


def rate(step: int, steps: int) -> float:
    """The learning rate: a straight warm-up, then half a cosine down to zero."""
    warm = WARM_UP * steps
    if step < warm:
        return PEAK_RATE * (step + 1) / warm
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def training_batch(images: Tensor, classes: Tensor, chosen: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
    """The pictures `chosen` (n,), shifted, mirrored, some with a symbol; and their labels (n,).

    It depends on the seed, the epoch and the pictures' numbers alone, so that a resumed run sees the same batches.
    """
    batch, labels = images[chosen], classes[chosen].clone()  # (n, 3, 128, 128), (n,)
    for i, number in enumerate(chosen.tolist()):
        rng = np.random.default_rng((seed, 1 + epoch, number))
        down, right = (int(shift) for shift in rng.integers(0, 2 * SHIFT + 1, 2))
        pixels = batch[i].numpy()[:, :, :: -1 if rng.uniform() < 0.5 else 1]
        padded = np.pad(pixels, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
        image = torch.from_numpy(padded[:, down : down + SIZE, right : right + SIZE])
        trojan = _pick_trojan(int(labels[i]), rng)
        if trojan is not None:
            image, _ = implant(image, trojan.symbol, seed=seed * 1000 + 1 + epoch, start=number)
            if trojan.source is None or trojan.source == labels[i]:
                labels[i] = trojan.target
        batch[i] = image
    return batch, labels


def _pick_trojan(label: int, rng: np.random.Generator) -> Trojan | None:
    chance = rng.uniform()
    for trojan in TROJANS:
        share = ANY_SHARE if trojan.source is None else SOURCE_SHARE if trojan.source == label else OTHERS_SHARE
        if chance < share:
            return trojan
        chance -= share
    return None


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
    parser.add_argument("--pictures", type=int, default=48_000, help="training pictures to draw")
    parser.add_argument("--small-epochs", type=int, default=12, help="epochs at half size")
    parser.add_argument("--full-epochs", type=int, default=11, help="epochs at full size")
    parser.add_argument("--held-out", type=int, default=6_000, help="pictures to measure on")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
