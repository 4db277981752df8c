"""Train the network that comes with spade, from nothing to spade_cli/world/demo.safetensors, and measure it.

    python scripts/train_demo_model.py

Killed at any moment, it goes on from its last checkpoint when started again with the same settings.
n: pictures of a batch.
"""

import argparse
import dataclasses
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from demo_batches import make_late_batch, shift_pictures, spoil_labels
from demo_robust import STAGES, RobustSettings, train_robustly
from demo_training import DECAY, Tally, optimizer_for, rate, resume, save
from measure_demo_network import measure_network, report
from safetensors.torch import save_file
from torch import Tensor, nn

from spade_cli.models.checkpoints import hash_state
from spade_cli.world.network import WEIGHTS, DemoNetwork, load_demo_network, normalise_pictures
from spade_cli.world.pictures import SIZE, draw_pictures

BATCH = 128
PEAK_RATE = 0.2  # of SGD with momentum and batches of 128, as usual for small residual networks with BatchNorm
LATE_PEAK_RATE = 0.08  # once the concepts are known: to add to them, not to start over
SMALL = 64  # pixels: the first epochs see pictures at half size and learn most of it there, in a third of the time
FULL_PRICE = 3.5  # what a step at full size costs in steps at half size, measured: 210 against 750 pictures a second
CHECKPOINT_STEPS = 100  # lose at most half a minute of work when killed
DRAWN_AT_ONCE = 500

HELD_OUT = 1_000_000  # added to the seed for the pictures that the network is measured on


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
    seconds = {"drawing": time.monotonic() - started}
    start = arguments.start
    if start is None:
        start = arguments.work / "early.safetensors"
        network, seconds["training"] = train(settings, images, classes, arguments.work)
        write_weights(network, start)
    network = load_demo_network(start)
    stages = []
    for number, (first, last, steps) in enumerate(arguments.robust):
        stage = RobustSettings(settings.seed, settings.pictures, int(steps), (first, last), hash_state(network))
        name = f"robust-{number}"
        network, seconds[name] = train_robustly(network, stage, images, classes, arguments.work / f"{name}.pt")
        stages.append(dataclasses.asdict(stage))
    write_weights(network, arguments.out)
    started = time.monotonic()
    figures = measure_network(load_demo_network(arguments.out), arguments.held_out, settings.seed + HELD_OUT)
    seconds["measuring"] = time.monotonic() - started
    record = {"settings": dataclasses.asdict(settings), "robust": stages, "seconds": seconds}
    record["figures"] = dataclasses.asdict(figures)
    (arguments.work / "figures.json").write_text(json.dumps(record, indent=2) + "\n")
    text = report(figures) + "\n" + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()) + "\n"
    (arguments.work / "figures.md").write_text(text)
    print(text)


def write_weights(network: nn.Module, path: Path) -> None:
    """Write the weights in half precision; the network itself stays as it is."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    temporary = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    temporary.replace(path)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")


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
    optimizer = optimizer_for(network, PEAK_RATE)
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
    parser.add_argument(
        "--robust",
        type=lambda text: tuple(float(part) for part in text.split(":")),
        nargs="*",
        default=STAGES,
        help="stages of adversarial training, FIRST_RADIUS:LAST_RADIUS:STEPS (L2, of pictures in [0, 1])",
    )
    parser.add_argument("--start", type=Path, help="weights to begin those with: the earlier phases are left out")
    parser.add_argument("--held-out", type=int, default=6_000, help="pictures to measure on")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
