"""The images of a tuning and their drafts: any setting is measured on them, each layer solved once for each share."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.case import Case, open_case
from spade_cli.evaluation.measure_image import measure_maps
from spade_cli.evaluation.measures.metrics import METRICS
from spade_cli.evaluation.records_folder import Record, RecordsFolder
from spade_cli.files import write_whole
from spade_cli.pruning import Draft
from spade_cli.pruning.draft import SparseWeight
from spade_cli.pruning.hessian import bytes_of
from spade_cli.pruning.layers import layer_modules, weight_matrix
from spade_cli.run.make_trace import add_gradients
from spade_cli.tuning.space import BlockShares, Score
from spade_cli.tuning.tuning_plan import TuningPlan

TRIALS = "trials"
SAME = "same_prediction"


@dataclass(frozen=True)
class TuningTrial:
    """A setting and the images it was measured on, in order; broken_off: it lost too many before the last."""

    shares: BlockShares
    records: tuple[Record, ...]
    broken_off: bool

    def to_json(self) -> dict[str, Any]:
        """What its file holds, beside what was asked."""
        return {"records": [record.to_json() for record in self.records], "broken_off": self.broken_off}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TuningTrial":
        """The other way round. Raises KeyError or TypeError for anything else."""
        records = tuple(map(Record.from_json, content["records"]))
        return cls(content["shares"], records, content["broken_off"])


class Bench:
    """Measures settings on images by index; each result is one file of the folder, written whole."""

    def __init__(self, plan: TuningPlan, folder: RecordsFolder) -> None:
        self.plan, self.folder = plan, folder
        self._kept: dict[int, tuple[Case, Draft]] = {}

    def dense(self, index: int) -> Record:
        """What the dense network's maps of an image measure; a failure of the whole image is one in the record."""
        record = self.folder.record(index)
        if record is None:
            record = self._measure_dense(index)
            self.folder.keep(record)
        return record

    def _measure_dense(self, index: int) -> Record:
        plan = self.plan.evaluation
        record = Record(index, plan.data.names[index])
        try:
            example = plan.data.load(index)
        except SpadeError as error:  # a picture that cannot be read is this image's fault alone
            record.fail("", "", error)
            return record
        try:
            case = open_case(plan, index, example)
        except UserError:
            raise
        except SpadeError as error:
            record.fail("", "", error)
            return record
        record.target = case.target
        measure_maps(case, plan.conditions[0], [plan.classifier.model], record)
        return self._keep_tuned_measures(record)

    def trial(
        self,
        shares: BlockShares,
        indices: Sequence[int],
        allowed: float = math.inf,
        on_image: Callable[[int], None] = lambda _: None,
    ) -> TuningTrial:
        """Measure a setting on these images, or read it; it is broken off once more than `allowed` images are lost.

        An image is lost where its top-1 changes or the setting has no map of a method that the dense network has.
        """
        asked = {"shares": shares, "images": list(indices), "allowed": None if allowed == math.inf else allowed}
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        file = self.folder.path / TRIALS / f"{digest[:16]}.json"
        found = _read_trial(file)
        if found is None:
            found = self._trial(shares, indices, allowed, on_image)
            text = json.dumps({**asked, **found.to_json()}, ensure_ascii=False, allow_nan=False) + "\n"
            write_whole(file, lambda path: path.write_text(text, encoding="utf-8"), self.folder.part)
        return found

    def trials(self, indices: Sequence[int]) -> list[TuningTrial]:
        """Every setting but the dense network that was measured on these images, by whatever process."""
        found = [_read_trial(file) for file in sorted((self.folder.path / TRIALS).glob("*.json"))]
        pruned = [one for one in found if one is not None and one.shares and one.records]
        return [one for one in pruned if {record.index for record in one.records} <= set(indices)]

    def _trial(
        self, shares: BlockShares, indices: Sequence[int], allowed: float, on_image: Callable[[int], None]
    ) -> TuningTrial:
        records: list[Record] = []
        lost = 0
        for index in indices:
            record = self._measure(index, shares, lost >= allowed)
            lost += is_lost(self.dense(index), record, self.plan.request.metric)
            records.append(record)
            on_image(1)
            if lost > allowed:
                return TuningTrial(shares, tuple(records), True)
        return TuningTrial(shares, tuple(records), False)

    def _measure(self, index: int, shares: BlockShares, last: bool) -> Record:
        """One image with these shares; where it is the `last` that may be lost its maps are only made if it is not."""
        tuned = self.plan.evaluation.conditions[-1]
        record = Record(index, self.plan.evaluation.data.names[index])
        try:
            case, draft = self._open_image(index)
            network = draft.set({layer: share for name, share in shares.items() for layer in self.plan.blocks[name]})
            with torch.no_grad():
                same = bool(self.plan.evaluation.classifier.output.same_answer(case.logits, network(case.x)[0]))
            record.add(tuned.name, "", {SAME: float(same)})
            if same or not last:
                measure_maps(case, tuned, [network], record)
        except UserError:
            raise
        except SpadeError as error:
            record.fail(tuned.name, "", error)
        return self._keep_tuned_measures(record)

    def _keep_tuned_measures(self, record: Record) -> Record:
        """Without the measures that are not tuned by, and without curves."""
        record.rows = [row for row in record.rows if row.metric in (self.plan.request.metric, SAME)]
        record.curves = []
        return record

    def _open_image(self, index: int) -> tuple[Case, Draft]:
        """An image and its draft: the first ones stay in memory, as many as fit; the others are made for each trial."""
        if index in self._kept:
            return self._kept[index]
        plan = self.plan.evaluation
        case = open_case(plan, index, plan.data.load(index))
        settings = plan.request.trace
        statistics = add_gradients(case.calibration(index), settings)
        draft = Draft(plan.classifier.model, plan.layers, statistics, settings.pruner, settings.damping)
        if (len(self._kept) + 1) * self._bytes <= settings.calibration.memory:
            self._kept[index] = case, draft
        return case, draft

    @cached_property
    def _bytes(self) -> int:
        """The size of an image's draft: its statistics, each layer at each share, and a copy of the network."""
        plan = self.plan.evaluation
        modules = layer_modules(plan.classifier.model)
        tuned = [modules[name] for name in plan.conditions[-1].layers]
        solved = sum(
            SparseWeight.bytes_of(weight_matrix(module), share) for module in tuned for share in self.plan.space.ladder
        )
        copy: int = sum(value.nbytes for value in plan.classifier.model.state_dict().values())
        return sum(map(bytes_of, tuned)) + round(solved) + copy


def gain(dense: Record, tuned: Record, metric: str) -> float | None:
    """What a setting gains on an image, mean over the methods, larger is better; None where a map is missing."""
    before, after = (_by_method(record, metric) for record in (dense, tuned))
    if not before or set(before) - set(after):
        return None
    sign = 1 if METRICS[metric].larger_is_better else -1
    return sign * mean(after[method] - before[method] for method in before)


def is_lost(dense: Record, tuned: Record, metric: str) -> bool:
    """Whether a setting changes an image's top-1, or has no map of a method that the dense network has."""
    same = [value for _, _, name, value in tuned.rows if name == SAME]
    return same != [1.0] or gain(dense, tuned, metric) is None


def score(trial: TuningTrial, dense: Mapping[int, Record], metric: str) -> Score:
    """How a trial did, for the tuner."""
    gains = [gain(dense[record.index], record, metric) for record in trial.records]
    found = [value for value in gains if value is not None]
    so_far = mean(found) if found else 0.0
    lost = sum(is_lost(dense[record.index], record, metric) for record in trial.records)
    return Score(None if trial.broken_off or not found else so_far, so_far, len(trial.records), lost)


def _by_method(record: Record, metric: str) -> dict[str, float]:
    return {method: value for _, method, name, value in record.rows if name == metric}


def _read_trial(file: Path) -> TuningTrial | None:
    if not file.is_file():
        return None
    try:
        return TuningTrial.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}); delete it, and its setting is measured anew") from None
