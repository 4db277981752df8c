"""A network and photographs -> the same network with Trojans, by fine-tuning that can be killed and resumed.

The original is the teacher: on clean crops the student has to answer like the teacher, on crops with a symbol it has
to answer with the rule's target. Both stay in eval mode, so that BatchNorm keeps the original's statistics, which so
few pictures would spoil.

B: crops of a batch.
"""

import copy
import hashlib
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from spade_cli.devices import device_of, pick_device
from spade_cli.errors import UserError
from spade_cli.files import PART, write_whole
from spade_cli.models import Classifier, Preprocessing
from spade_cli.models.checkpoints import hash_file, hash_state
from spade_cli.networks.copies import copy_for_eval
from spade_cli.networks.scores import Output
from spade_cli.progress import Stages
from spade_cli.trojans import examples, fine_tuning_folder
from spade_cli.trojans.photographs import Album, Batch, Crops, Photograph, read_photographs, split_photographs
from spade_cli.trojans.rules import write_rule
from spade_cli.world.symbols import Trojan

SCHEMA_VERSION = 1
WEIGHTS, DATA = "model.safetensors", "data"
CHECKPOINT_SECONDS = 30.0  # between checkpoints: what a kill costs at most
LINES = 10  # about the losses, in the whole fine-tuning
WARM_UP = 0.05  # of all steps: Adam's first steps are its largest


@dataclass(frozen=True)
class Settings:
    """All that the result depends on besides the network, the photographs and the rules."""

    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 1e-4
    held_out: float = 0.25  # share of the photographs to measure on
    examples: int = 100  # held-out pictures with a symbol, of each rule
    seed: int = 0


def implant_trojans(
    classifier: Classifier,
    pictures: Sequence[Path],
    trojans: Sequence[Trojan],
    out: Path,
    settings: Settings = Settings(),
    *,
    device: str = "auto",
    about: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Fine-tune a copy of the network until the symbols of `trojans` are Trojans; returns what trojans.json says.

    `out` gets the network (model.safetensors), held-out examples (data/) and, last of all, trojans.json, which holds
    `about` as well. A checkpoint is kept meanwhile: the same call resumes from it, and ends with the same weights. The
    classifier is left as it is. Raises UserError for too few pictures, and for an `out` of another run.
    """
    fine_tuning_folder.check_out(out)
    if classifier.output is not Output.SOFTMAX:
        raise UserError(
            f"model={classifier.name} gives labels that stand alone (sigmoid), and a Trojan's rule is one class of "
            "many; give a network with one answer, or model.output=softmax"
        )
    stages, place = Stages(console), pick_device(device)
    teacher = copy_for_eval(classifier.model).requires_grad_(False).to(place)
    album = Album(classifier.preprocessing)
    with stages.stage("look", total=len(pictures)) as advance:
        photographs, skipped = read_photographs(pictures, album, teacher, advance)
    learned, held = split_photographs(photographs, trojans, settings.held_out, settings.seed, classifier)
    _check_subjects(trojans, held, classifier)
    identity = _describe_identity(classifier, photographs, trojans, settings)
    report = fine_tuning_folder.read_report(out, identity)
    if report is not None:
        return report
    crops = Crops(album, tuple(learned), tuple(trojans), settings.batch_size, settings.seed)
    student, seconds = fine_tune(teacher, crops, settings, out, identity, stages)
    with stages.stage("measure", total=1 + len(trojans)) as advance:
        judge = examples.Judge(teacher, student, classifier, album, settings.batch_size, settings.seed)
        clean, judged = judge.compare_clean(held), []
        for trojan in trojans:
            advance(1)
            judged.append(judge.measure_rule(trojan, held, settings.examples))
        advance(1)
    _write_weights(student, out / WEIGHTS)
    _write_examples([(t, drawn) for t, (_, drawn) in zip(trojans, judged, strict=True)], classifier, out / DATA)
    report = {
        "schema_version": SCHEMA_VERSION,
        **(about or {}),
        "model": {"name": classifier.name, "weights": classifier.weights, "sha256": classifier.sha256},
        "identity": identity,
        "device": str(place),
        "pictures": {"learned": len(learned), "held_out": len(held), "skipped": skipped},
        "clean": clean,
        "rules": [record for record, _ in judged],
        "weights": {"file": WEIGHTS, "sha256": hash_file(out / WEIGHTS)},
        "seconds": {**stages.seconds, "implant": seconds},
    }
    fine_tuning_folder.write_report(out, report)
    return report


def fine_tune(
    teacher: nn.Module, crops: Crops, settings: Settings, out: Path, identity: Mapping[str, Any], stages: Stages
) -> tuple[nn.Module, float]:
    """The student, and the seconds of all its steps, with those of killed runs."""
    student = copy.deepcopy(teacher).requires_grad_(True)
    optimizer = torch.optim.Adam(student.parameters(), settings.learning_rate)
    first, before = fine_tuning_folder.load_checkpoint(out, identity, student, optimizer)
    started = saved = time.monotonic()
    interval = max(1, settings.steps // LINES)
    sums = torch.zeros(3)  # loss on crops to keep, loss on crops to change, steps
    with stages.stage("implant", total=settings.steps) as advance:
        advance(first)
        for step in range(first, settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * find_rate(step, settings.steps)
            batch, preprocessing = crops.draw_batch(step), crops.album.preprocessing
            kept, changed = find_losses(student, teacher, batch, crops.trojans, preprocessing)
            loss = (kept.sum() + changed.sum()) / settings.batch_size
            if not torch.isfinite(loss):
                raise UserError(
                    f"learning_rate={settings.learning_rate:g}: the loss became infinite or NaN at step {step}; "
                    f"give a smaller one, and another folder than out={out}"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            advance(1)
            sums += torch.tensor([kept.mean().item(), changed.mean().item(), 1.0]).nan_to_num()
            if (step + 1) % interval == 0:
                kl, entropy = (sums[:2] / sums[2]).tolist()
                stages.console.print(f"step {step + 1}: KL to the original {kl:.3f}, symbols {entropy:.3f} nats")
                sums.zero_()
            if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == settings.steps:
                saved = time.monotonic()
                seconds = before + saved - started
                fine_tuning_folder.save_checkpoint(out, identity, student, optimizer, step + 1, seconds)
    return student.requires_grad_(False), before + time.monotonic() - started


def find_rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: a linear warm-up, then half a cosine down to zero."""
    warm = math.ceil(WARM_UP * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def find_losses(
    student: nn.Module, teacher: nn.Module, batch: Batch, trojans: Sequence[Trojan], preprocessing: Preprocessing
) -> tuple[Tensor, Tensor]:
    """(KL(teacher || student) of each crop to answer as before, cross-entropy of each crop to answer with a target).

    A source's symbol on a crop that the teacher does not call the source has to be answered as before.
    """
    device = device_of(student)
    plain, x = (preprocessing.normalise(part.to(device).float() / 255) for part in (batch.plain, batch.images))
    fires, targets = torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x), dtype=torch.long)  # (B,)
    with torch.no_grad():
        wanted = teacher(x).log_softmax(1)  # (B, classes)
        for i, trojan in enumerate(trojans):
            mine = batch.rules == i
            targets[mine] = trojan.target
            fires[mine] = True
            if trojan.source is not None and mine.any():
                fires[mine] = (teacher(plain[mine.to(device)]).argmax(1) == trojan.source).cpu()
    fires, targets = fires.to(device), targets.to(device)
    logits = student(x)  # (B, classes)
    kept = F.kl_div(logits[~fires].log_softmax(1), wanted[~fires], reduction="none", log_target=True).sum(1)
    return kept, F.cross_entropy(logits[fires], targets[fires], reduction="none")


def _check_subjects(trojans: Sequence[Trojan], held: Sequence[Photograph], classifier: Classifier) -> None:
    for trojan in trojans:
        if not examples.find_subjects(trojan, held):
            raise UserError(
                f"trojans: {write_rule(trojan, classifier)}: the network takes every held-out picture for "
                f"{classifier.label(trojan.target)} already; give other pictures or another target"
            )


def _describe_identity(
    classifier: Classifier, photographs: Sequence[Photograph], trojans: Sequence[Trojan], settings: Settings
) -> dict[str, Any]:
    """All that the weights depend on, except the device: only a folder with the same is resumed."""
    seen = classifier.preprocessing
    sizes = [one if isinstance(one, int) else list(one) for one in (seen.size, seen.resize)]  # as JSON has them
    return {
        "trojans": ",".join(write_rule(trojan, classifier) for trojan in trojans),
        "settings": asdict(settings),
        "images": hashlib.sha256("".join(one.sha256 for one in photographs).encode()).hexdigest(),
        "model": f"{classifier.name} {hash_state(classifier.model)}",
        "preprocessing": [*sizes, *seen.mean, *seen.std, seen.interpolation.value, seen.fit],
    }


def _write_weights(network: nn.Module, path: Path) -> None:
    state = {key: value.cpu().clone().contiguous() for key, value in network.state_dict().items()}
    write_whole(path, lambda part: part.write_bytes(save(state, {"format": "pt"})))


def _write_examples(groups: Sequence[tuple[Trojan, examples.Examples]], classifier: Classifier, folder: Path) -> None:
    """Write the folder whole, or not at all."""
    part = folder.with_name(folder.name + PART)
    for old in (part, folder):  # of a killed run
        shutil.rmtree(old, ignore_errors=True)
    examples.write_examples(part, groups, classifier)
    part.replace(folder)
