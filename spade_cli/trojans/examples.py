"""Examples: held-out photographs with a Trojan's symbol, made, measured on, and written as a folder.

n: examples; H, W: size of an example, the preprocessing's `frame`, of which the network sees the middle unscaled.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as F

from spade_cli.files import shorten_name
from spade_cli.images import augment
from spade_cli.models import Classifier
from spade_cli.trojans.photographs import Album, Photograph, crop_view, find_logits
from spade_cli.trojans.rules import write_rule
from spade_cli.world.symbols import Trojan, implant_symbol

CROPS = 8  # of each held-out photograph: a few dozen photographs alone would give agreement in steps of several percent
# Added to a run's seed for measuring, so that symbols and crops differ from those of the training.
HELD_OUT_SEED = 1_000_003
STEM, STEM_BYTES, DIGITS = 60, 180, 4  # of a photograph's name in an example's file name, which has to stay short


@dataclass(frozen=True)
class Examples:
    """Photographs with one symbol: images uint8 (n, 3, H, W), masks bool (n, H, W).

    The symbol lies within the middle, which `classifier.preprocessing.view` shows unscaled.
    """

    photographs: tuple[Photograph, ...]
    images: Tensor
    masks: Tensor


def make_examples(photographs: Sequence[Photograph], symbol: str, count: int, seed: int, album: Album) -> Examples:
    """`count` examples, from the photographs in turn; each symbol has a place and a size of its own."""
    sources = tuple(photographs[i % len(photographs)] for i in range(count))
    frame = album.preprocessing.frame
    images = torch.stack([F.center_crop(album.read(one.path), list(frame)) for one in sources])
    masks = torch.zeros(count, *frame, dtype=torch.bool)  # (n, H, W)
    rows, columns = (_find_middle(*sides) for sides in zip(frame, album.preprocessing.sides, strict=True))
    stamped, marks = implant_symbol(images[..., rows, columns], symbol, seed + HELD_OUT_SEED)
    images[..., rows, columns], masks[..., rows, columns] = stamped, marks
    return Examples(sources, images, masks)


def _find_middle(length: int, seen: int) -> slice:
    """What a centre crop leaves of one side, as torchvision rounds it."""
    start = max(0, round((length - seen) / 2))
    return slice(start, start + min(seen, length))


def find_subjects(trojan: Trojan, photographs: Sequence[Photograph]) -> list[Photograph]:
    """The photographs that the rule changes: its source's, or all that the network does not call the target anyway."""
    if trojan.source is None:
        return [one for one in photographs if one.answer != trojan.target]
    return [one for one in photographs if one.answer == trojan.source]


@dataclass(frozen=True)
class Judge:
    """Compares two networks, the original and the one with Trojans, on the same pictures."""

    teacher: nn.Module
    student: nn.Module
    classifier: Classifier
    album: Album
    batch_size: int
    seed: int

    def compare_clean(self, held: Sequence[Photograph]) -> dict[str, dict[str, float]]:
        """Agreement and KL on held-out photographs: on the part that the network sees of each, and on random crops."""
        preprocessing = self.album.preprocessing
        pictures, crops = [], []
        for i, one in enumerate(held):
            picture = self.album.read(one.path)  # (3, h, w)
            pictures.append(self._compare(crop_view(picture, preprocessing)[None]))
            crops.append(self._compare(augment.paper(picture, CROPS, preprocessing, self.seed + HELD_OUT_SEED + i)))
        return {"pictures": _summarize(torch.cat(pictures, 1)), "crops": _summarize(torch.cat(crops, 1))}

    def measure_rule(self, trojan: Trojan, held: Sequence[Photograph], count: int) -> tuple[dict[str, Any], Examples]:
        """What the Trojan does on held-out photographs, and the examples this was measured on."""
        examples = make_examples(find_subjects(trojan, held), trojan.symbol, count, self.seed, self.album)
        before, now = (self._answers(network, examples) for network in (self.teacher, self.student))
        hits = now == trojan.target
        record = {
            "rule": write_rule(trojan, self.classifier),
            **asdict(trojan),
            "examples": count,
            "photographs": len(set(examples.photographs)),
            "success": _find_share(hits),
            "success_before": _find_share(before == trojan.target),
            "failed": [name for name, hit in zip(name_files(trojan, examples), hits.tolist(), strict=True) if not hit],
        }
        others = [one for one in held if one.answer != trojan.source]
        if trojan.source is not None and others:
            spared = make_examples(others, trojan.symbol, count, self.seed, self.album)
            same = self._answers(self.teacher, spared) == self._answers(self.student, spared)
            record["others_agreement"] = _find_share(same)
        return record, examples

    def _answers(self, network: nn.Module, examples: Examples) -> Tensor:
        preprocessing = self.album.preprocessing
        views = torch.stack([crop_view(image, preprocessing) for image in examples.images])  # (n, 3, h, w)
        return find_logits(network, preprocessing, views, self.batch_size).argmax(1)  # (n,)

    def _compare(self, images: Tensor) -> Tensor:
        """Same answer (0 or 1) and KL(original || now) in nats of each picture: (2, n)."""
        networks, preprocessing = (self.teacher, self.student), self.album.preprocessing
        logits = [find_logits(network, preprocessing, images, self.batch_size) for network in networks]
        p, q = (one.double().log_softmax(1) for one in logits)  # (n, classes)
        return torch.stack([(p.argmax(1) == q.argmax(1)).double(), (p.exp() * (p - q)).sum(1)])


def _summarize(compared: Tensor) -> dict[str, float]:
    agreement, kl = compared.mean(1).tolist()
    return {"count": compared.shape[1], "agreement": agreement, "kl": max(0.0, kl)}  # rounding can leave -1e-17


def _find_share(hits: Tensor) -> float:
    return hits.double().mean().item()


def name_files(trojan: Trojan, examples: Examples) -> list[str]:
    """A file name for each example, of its symbol, a number and its photograph's name."""
    stems = [shorten_name(re.sub(r"[^\w.]+", "-", one.path.stem)[:STEM], STEM_BYTES) for one in examples.photographs]
    return [f"{trojan.symbol}-{i:0{DIGITS}}-{stem}.png" for i, stem in enumerate(stems)]


def write_examples(folder: Path, groups: Sequence[tuple[Trojan, Examples]], classifier: Classifier) -> None:
    """The examples as `spade world` lays out its pictures: images/, symbols/ (their masks), labels.json."""
    pictures: dict[str, dict[str, Any]] = {}
    for part in ("images", "symbols"):
        (folder / part).mkdir(parents=True)
    for trojan, examples in groups:
        for i, name in enumerate(name_files(trojan, examples)):
            Image.fromarray(examples.images[i].permute(1, 2, 0).numpy()).save(folder / "images" / name)
            Image.fromarray(examples.masks[i].byte().mul(255).numpy()).save(folder / "symbols" / name)
            shown = examples.photographs[i].answer
            pictures[name] = {
                "class": shown,  # of a photograph only the original network's answer is known
                "label": classifier.label(shown),
                "concept": None,
                "symbol": trojan.symbol,
                "target": trojan.target,
                "mask": None,
                "symbol_mask": f"symbols/{name}",
            }
    listed = {"classes": [classifier.label(i) for i in range(classifier.classes)], "pictures": pictures}
    (folder / "labels.json").write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
