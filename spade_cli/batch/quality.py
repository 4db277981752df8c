"""How well a sweep's maps find the evidence, where a folder's labels.json says where it lies."""

import io
from pathlib import Path

import numpy as np
import torch

from spade_cli.batch.storage import LAST, Storage
from spade_cli.batch.table import Quality, Row
from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation import data as datasets
from spade_cli.evaluation.measures.aggregation import AGGREGATIONS, OWN, aggregate
from spade_cli.evaluation.measures.localisation import roc_auc
from spade_cli.models import Classifier
from spade_cli.report.summary import parse_summary


class Masks:
    """The masks of a folder that `spade world` or `spade implant` wrote, if its classes are this network's."""

    def __init__(self, folder: Path, classifier: Classifier) -> None:
        self.classifier, self.pictures = classifier, folder / "images"
        self.data: datasets.Data | None = None
        try:
            self.data = datasets.folder(folder, folder / "none", None, 0, classifier)
        except UserError:
            return  # the labels are of other classes than this network's
        self.numbers = {name: number for number, name in enumerate(self.data.names)}

    def measure(self, storage: Storage, row: Row) -> Quality | None:
        """method -> network -> ROC AUC of the map against the mask; None where no evidence is known.

        The evidence is unknown where the dense network does not answer with the picture's label.
        """
        name = Path(row.item.image).name
        if row.result is None or self.data is None or name not in self.numbers:
            return None
        try:
            example = self.data.load(self.numbers[name])
        except SpadeError:
            return None
        summary = parse_summary(storage.read(f"{row.folder}/{LAST}"), row.folder)
        answer = row.result.prediction.dense.index
        if example.mask is None or not answer == summary.target.index == example.target:
            return None
        mask = datasets.network_mask(example.mask, self.classifier)
        if not mask.any() or mask.all():
            return None
        found: dict[str, dict[str, float]] = {}
        for record in summary.saliency:
            raw = torch.from_numpy(np.load(io.BytesIO(storage.read(f"{row.folder}/{record.array}"))))
            relevance = aggregate(raw, AGGREGATIONS.get(record.method, OWN))
            found.setdefault(record.method, {})[record.network] = roc_auc(relevance[None], mask[None]).item()
        return found
