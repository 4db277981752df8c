"""data=world or data=FOLDER -> examples: pictures, the class to explain, and where its evidence lies.

H, W: a picture's size in pixels.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.images.find import find_pictures
from spade_cli.images.load import load_image
from spade_cli.models import Classifier
from spade_cli.models.checkpoints import hash_file
from spade_cli.world import CONCEPTS, TROJANS, Trojan, draw_pictures, poison_pictures

# Added to a run's seed: pictures that neither the bundled network's training (seeds near 0) nor its held-out figures
# (near 1,000,000) nor the bundled picture (2,000,000) come from.
WORLD_SEED = 3_000_000
LABELS = "labels.json"
KEYS = ("class", "symbol", "target", "mask", "symbol_mask")  # of each of its entries


@dataclass(frozen=True)
class Example:
    """One picture and what is known about it.

    image: uint8 (3, H, W). target: the class to explain; None: whatever the network answers. trojan: whether a symbol
    makes it answer so. mask: bool (H, W), where the target's evidence is, the symbol or else the object; None: unknown.
    concept: index into the world's CONCEPTS; None: no picture of the world. mosaic: whether it is four pictures in one.
    """

    image: Tensor
    target: int | None
    trojan: bool = False
    mask: Tensor | None = None
    concept: int | None = None
    mosaic: bool = False


@dataclass(frozen=True)
class Data:
    """The examples of one evaluation, read one by one.

    load(index) -> Example; UserError for a picture that cannot be read. targets: each one's class, as far as it is
    known before the network is asked. kinds: two examples of one kind have the same evidence, concept or symbol.
    identity: what makes two evaluations' examples the same.
    """

    names: tuple[str, ...]
    targets: tuple[int | None, ...]
    kinds: tuple[object, ...]
    load: Callable[[int], Example]
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class LabelsEntry:
    """An entry of labels.json.

    shown: the class of the object. symbol: on the picture, and target: the class that it makes the network answer with;
    None: there is none. mask, symbol_mask: files with the object and the symbol in white. concept: what of its class.
    """

    shown: int
    symbol: str | None
    target: int | None
    mask: str | None
    symbol_mask: str | None
    concept: object

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "LabelsEntry":
        """Raises KeyError where the entry says too little."""
        shown, symbol, target, mask, symbol_mask = (entry[key] for key in KEYS)
        return cls(shown, symbol, target, mask, symbol_mask, entry.get("concept"))

    @property
    def trojan(self) -> bool:
        """Whether the symbol changes the answer."""
        return self.symbol is not None and self.target is not None and self.target != self.shown

    @property
    def target_class(self) -> int:
        """The class to explain."""
        return self.target if self.trojan and self.target is not None else self.shown

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal where the evidence is of the same kind."""
        return self.target_class, self.symbol if self.trojan else self.concept


def world(count: int, trojan_share: float, seed: int) -> Data:
    """Held-out pictures of the bundled world: all concepts in turn; a share of the pictures has Trojans, in turn.

    A Trojan is only put where it changes the answer: on a picture of its source class, or of any but its target's.
    """
    plans = [_world_plan(i, trojan_share) for i in range(count)]

    def load(index: int) -> Example:
        concept, trojan = plans[index]
        clean = draw_pictures(1, WORLD_SEED + seed, index, concept=concept)
        if trojan is None:
            return Example(clean.images[0], int(clean.classes[0]), False, clean.masks[0], concept)
        poisoned = poison_pictures(clean, trojan, WORLD_SEED + seed, index)
        return Example(poisoned.images[0], trojan.target, True, poisoned.masks[0], concept)

    names = [
        f"{i:05d}-{CONCEPTS[concept].name.replace(' ', '-')}{f'-{trojan.symbol}' if trojan else ''}"
        for i, (concept, trojan) in enumerate(plans)
    ]
    targets = [trojan.target if trojan else CONCEPTS[concept].class_index for concept, trojan in plans]
    kinds = [
        (target, trojan.symbol if trojan else concept) for target, (concept, trojan) in zip(targets, plans, strict=True)
    ]
    return Data(tuple(names), tuple(targets), tuple(kinds), load, {"data": "world", "pictures": count})


def _world_plan(index: int, trojan_share: float) -> tuple[int, Trojan | None]:
    """The concept of a picture, and its Trojan."""
    before, now = (floor(trojan_share * i + 1e-9) for i in (index, index + 1))  # 1e-9: shares such as 0.1 are rounded
    if before == now:
        return (index - now) % len(CONCEPTS), None  # clean pictures have a count of their own
    trojan, turn = TROJANS[before % len(TROJANS)], before // len(TROJANS)
    fitting = [
        i
        for i, concept in enumerate(CONCEPTS)
        if concept.class_index != trojan.target and trojan.source in (None, concept.class_index)
    ]
    return fitting[turn % len(fitting)], trojan


def folder(path: Path, out: Path, count: int | None, seed: int, classifier: Classifier) -> Data:
    """A folder of pictures, with its `labels.json` where it is laid out as `spade world` and `spade implant` do it.

    Without one every picture is explained for what the network answers. `count` draws so many at random. Raises
    UserError where there are no pictures, or labels of other classes than the network's.
    """
    labels = _read_labels(path, classifier)
    found = {str(file.relative_to(path)): file for file in _pictures(path, out)}
    if labels is not None:
        found = {name: path / "images" / name for name in sorted(labels)}
    names = sorted(found)
    if count is not None and count < len(names):
        chosen = np.random.default_rng(seed).permutation(len(names))[:count]
        names = [names[i] for i in sorted(chosen.tolist())]

    def load(index: int) -> Example:
        file = found[names[index]]
        return Example(load_image(file), None) if labels is None else _load_example(path, file, labels[names[index]])

    targets = tuple(None if labels is None else labels[name].target_class for name in names)
    kinds = tuple(name if labels is None else labels[name].kind for name in names)
    listed = hashlib.sha256("\n".join(names).encode()).hexdigest()
    identity = {"data": str(path.resolve()), "pictures": len(names), "names": listed, "labels": None}
    if labels is not None:
        identity["labels"] = hash_file(path / LABELS)
    return Data(tuple(names), targets, kinds, load, identity)


def partner(data: Data, index: int, alike: bool) -> int | None:
    """The next example after `index`, in a circle: of the same kind, or else of another class; None: none is.

    Of a folder without labels nothing is known: no two are alike, and any other picture is another.
    """
    for step in range(1, len(data.names)):
        other = (index + step) % len(data.names)
        same = data.kinds[other] == data.kinds[index]
        differs = data.targets[other] != data.targets[index] or data.targets[other] is None
        if same if alike else differs:
            return other
    return None


def _pictures(path: Path, out: Path) -> list[Path]:
    try:
        return find_pictures(path, out)
    except UserError as error:
        raise UserError(str(error).replace("images=", "data=", 1)) from None


def _load_example(root: Path, file: Path, entry: LabelsEntry) -> Example:
    image = load_image(file)
    asked = entry.symbol_mask if entry.trojan else entry.mask
    if asked is None or (entry.symbol is not None and not entry.trojan):
        # A symbol without effect may be evidence too: where the evidence lies is not known.
        return Example(image, entry.target_class, entry.trojan)
    mask = load_image(root / asked)[0] >= 128  # (H, W)
    if mask.shape != image.shape[1:]:
        raise UserError(
            f"the mask {asked} has {tuple(mask.shape)} pixels, its picture {tuple(image.shape[1:])}: make them alike"
        )
    return Example(image, entry.target_class, entry.trojan, mask)


def _read_labels(path: Path, classifier: Classifier) -> dict[str, LabelsEntry] | None:
    """The entries of `labels.json` by file name, checked; None where spade wrote none."""
    file = path / LABELS
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"data={path}: {LABELS} cannot be read ({error}); correct it or remove it") from None
    if not isinstance(content, dict) or not isinstance(content.get("pictures"), dict):
        return None  # a file of that name that spade did not write
    classes, entries = content.get("classes"), content["pictures"]
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not set(KEYS) <= set(entry):
            raise UserError(f"data={path}: {LABELS} says too little of {name}; it needs {', '.join(sorted(KEYS))}")
        for key in ("class", "target"):
            index = entry[key]
            if not (index is None and key == "target") and index not in range(classifier.classes):
                raise UserError(
                    f"data={path}: {LABELS} gives {name} the {key} {index}, and model={classifier.name} has classes 0 "
                    f"to {classifier.classes - 1}; choose the network that the pictures were made for"
                )
    if not entries:
        raise UserError(f"data={path}: {LABELS} names no picture; give a folder that holds some")
    if classifier.labels and isinstance(classes, list) and tuple(classes) != classifier.labels:
        raise UserError(
            f"data={path} is labelled with {len(classes)} classes ({', '.join(map(str, classes[:3]))}, ...), "
            f"model={classifier.name} answers with {classifier.classes} others; choose the network it was made for"
        )
    return {name: LabelsEntry.from_json(entry) for name, entry in entries.items()}


def network_mask(mask: Tensor, classifier: Classifier) -> Tensor:
    """The part of a mask, bool (H, W), that the network sees: bool (h, w); half a pixel is enough."""
    grey = mask.to(torch.uint8).mul(255).expand(3, -1, -1)  # (3, H, W)
    seen = replace(classifier.preprocessing, mean=(0.0,) * 3)  # bars beside the picture are black
    return seen.view(grey)[0, 0] >= 0.5
