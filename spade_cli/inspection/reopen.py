"""A run's folder -> its two networks and its image again, as they were."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from spade_cli.devices import pick_device
from spade_cli.errors import UserError
from spade_cli.images.load import DAMAGE
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.models.checkpoints import load_weights
from spade_cli.networks.copies import copy_for_eval
from spade_cli.networks.question import Question
from spade_cli.report.checkpoint import CHECKPOINT, load_trace
from spade_cli.report.summary import Summary, read_summary


@dataclass(frozen=True)
class OpenRun:
    """A finished run, its networks loaded."""

    run: Path
    summary: Summary
    classifier: Classifier  # the dense network
    trace: nn.Module
    view: Image.Image  # what the network saw of the image
    x: Tensor  # (1, 3, H, W), normalised, on the device

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Both, by the names that the report has for them."""
        return {"dense": self.classifier.model, "trace": self.trace}

    @property
    def question(self) -> Question:
        """What was asked."""
        return self.summary.target.question


def reopen(run: Path, source: ModelSource, device: str = "auto") -> OpenRun:
    """Load a run; `source` is what its configuration says of the network.

    Raises UserError where a file of the run is missing, or the network's weights are no longer those of the run.
    """
    summary = _read_whole(run)
    file = summary.image.view
    if file is None or not (run / file).is_file() or not (run / CHECKPOINT).is_file():
        raise UserError(
            f"{run} lacks {CHECKPOINT} or the picture the network saw; make the run again, with trace in keep=[...]"
        )
    classifier = load_model(source, seed=summary.seed)
    if classifier.sha256 != summary.model.sha256:
        raise UserError(
            f"{run}: the weights of {classifier.name} are not those that the run was made with; give those, or run anew"
        )
    classifier = replace(classifier, model=classifier.model.to(pick_device(device)))
    trace = copy_for_eval(classifier.model)
    load_weights(trace, load_trace(run / CHECKPOINT), str(run / CHECKPOINT), classifier.name)
    try:
        view = Image.open(run / file).convert("RGB")
    except DAMAGE as error:
        raise UserError(f"{run / file} cannot be read as a picture ({error}); make the run again") from error
    pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    x = classifier.preprocessing.normalise(pixels.to(pick_device(device)))
    return OpenRun(run, summary, classifier, trace, view, x)


def _read_whole(run: Path) -> Summary:
    """The summary. Raises UserError where it says of no layer, or of no seed, from which networks are made again."""
    summary = read_summary(run)
    if not summary.layers or summary.seed < 0:
        raise UserError(f"{run}: its summary.json is damaged or of another version; make the run again")
    return summary
