"""summary.json as dataclasses: what was asked of a run, what was found, and what made it; written and read here only.

A field with a default is one that the first runs did not write.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spade_cli.errors import UserError
from spade_cli.records import LayerRecord, Trial, read_record

if TYPE_CHECKING:
    from spade_cli.networks.question import Question

SCHEMA_VERSION = 1
SUMMARY = "summary.json"
VIEW = "image.png"  # what the network saw of the image, pixel by pixel
LIBRARIES = (
    *("torch", "torchvision", "numpy", "pillow", "captum", "scikit-image", "torch-lucent", "kornia"),
    *("safetensors", "hydra-core", "omegaconf"),
)


@dataclass(frozen=True)
class Against:
    """A class that the one asked about is set against, and the weight of its score."""

    index: int
    label: str
    weight: float


@dataclass(frozen=True)
class Target:
    """The class or label that was asked about, and the classes that it is set against."""

    index: int
    label: str
    against: tuple[Against, ...] = ()

    @property
    def question(self) -> "Question":
        """What a network is asked."""
        from spade_cli.networks.question import Question  # torch takes seconds to import; lists of runs need none

        return Question(self.index, tuple((one.weight, one.index) for one in self.against))

    @property
    def words(self) -> str:
        """What was asked, to follow "why": heart, or heart and not bolt."""
        others = join_words([one.label for one in self.against], "or")
        return f"{self.label} and not {others}" if others else self.label


@dataclass(frozen=True)
class Prediction:
    """What one network says about the image."""

    index: int  # of the likeliest class
    label: str  # the answer in words: the class's name, or those of all labels above 0.5
    probability: float  # of the likeliest class
    target_probability: float  # of what was asked (`Question.probability`)


@dataclass(frozen=True)
class Predictions:
    """What both networks say about the image."""

    dense: Prediction
    trace: Prediction


@dataclass(frozen=True)
class FidelityRecord:
    """How far the trace says what the dense network says."""

    same_prediction: bool  # the same answer on the image
    agreement: float  # share of the samples with the same answer
    kl: float  # KL(dense || trace) in nats, mean over the samples
    faithful: bool = True


@dataclass(frozen=True)
class SparsityRecord:
    """How much was removed, over all weights of convolutions and linear layers."""

    level: float | None  # that the schedule started from; None: the schedule's own
    asked: float  # what the schedule made of it
    achieved: float
    weights_total: int
    weights_kept: int


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """The user's picture."""

    path: str  # or its URL
    sha256: str
    size: tuple[int, int]  # width, height
    view: str | None = None  # the file of what the network saw


@dataclass(frozen=True)
class ModelRecord:
    """The dense network."""

    name: str
    weights: str
    sha256: str | None  # of the weights' file
    output: str | None = None  # softmax or sigmoid
    classes: int | None = None


@dataclass(frozen=True)
class AugmentationRecord:
    """How the samples were made."""

    name: str
    samples: int


@dataclass(frozen=True)
class SaliencyRecord:
    """One method's map of one network; files are named within the run's folder."""

    method: str
    network: str  # dense or trace
    array: str
    picture: str
    overlay: str
    aggregation: str
    scale_top: float  # the value that gets the brightest colour in picture and overlay
    checks: dict[str, float | None]  # None: not finite
    warnings: tuple[str, ...]
    seconds: float
    samples: int = 1  # noisy copies of the image whose mean the map is
    noise: float = 0.0  # their standard deviation, as a share of the image's range
    scale: str = "common"  # own, or common: scale_top is the same for both networks
    plain: str | None = None  # the array of the image's map without noise, where it was made


@dataclass(frozen=True)
class VisualizationRecord:
    """The picture that one class or channel of one network responds to most."""

    target: str
    network: str  # dense or trace
    picture: str
    seconds: float
    cached: bool = False  # whether it came from the cache


@dataclass(frozen=True)
class Skipped:
    """What could not be made, and why."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """summary.json; the fields have the file's names and order."""

    schema_version: int = SCHEMA_VERSION
    target: Target
    prediction: Predictions
    fidelity: FidelityRecord
    sparsity: SparsityRecord
    flags: tuple[str, ...]  # what a reader of the pictures has to know, most important first
    spade_version: str
    versions: dict[str, str]
    command: str
    seed: int
    device: str
    image: ImageRecord
    model: ModelRecord
    augmentation: AugmentationRecord
    pruner: str
    schedule: str
    layers: tuple[LayerRecord, ...]
    trials: tuple[Trial, ...] = ()  # each setting that schedule=auto tried, in order
    map_traces: tuple[Trial, ...] = ()  # those whose maps are averaged, that of the checkpoint first
    visualization_traces: tuple[Trial, ...] = ()  # those that visualizations excite: their heads are pruned as well
    saliency: tuple[SaliencyRecord, ...]
    visualizations: tuple[VisualizationRecord, ...]
    skipped: tuple[Skipped, ...]
    seconds: dict[str, float] = field(default_factory=dict)  # by stage, and in total; empty while the run goes on

    @property
    def layers_pruned(self) -> int:
        """How many layers were not left dense."""
        return sum(layer.left is None for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content


def join_words(words: Sequence[str], last: str) -> str:
    """Words as in a sentence.

    >>> join_words(["a", "b", "c"], "or")
    'a, b or c'
    """
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def write_summary(summary: Summary, folder: Path) -> None:
    """Write `summary.json` as JSON that any reader takes: no NaN, names in their own script."""
    text = json.dumps(asdict(summary), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def read_summary(run: Path) -> Summary:
    """The summary of a finished run, from its folder. Raises UserError where it cannot be read."""
    path = run / SUMMARY
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); give the folder of a finished run") from error
    return parse_summary(text, str(path))


def parse_summary(text: str | bytes, path: str) -> Summary:
    """The same from the file's text. Raises UserError, which names `path`, for what is not a summary that we read."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); give the folder of a finished run") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise UserError(f"{path} is not of a run; give a folder that spade run wrote")
    version = content["schema_version"]
    try:
        if version != SCHEMA_VERSION:
            raise ValueError(f"its schema_version is {version}, this spade reads {SCHEMA_VERSION}")
        summary = read_record(Summary, content)
        if "total" not in summary.seconds:
            raise ValueError("seconds.total is missing")
    except ValueError as error:
        raise UserError(f"{path} is damaged or of another version ({error}); make the run again") from error
    return summary


@cache  # looked up in the installed files: many images need it once
def versions() -> dict[str, str]:
    """Python and every library that has a say in the result."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}
