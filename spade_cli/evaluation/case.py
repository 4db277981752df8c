"""One image of an evaluation, and what all conditions share of it: its answer, samples and statistics."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.conditions import Condition, Networks
from spade_cli.evaluation.data import Example, network_mask, partner
from spade_cli.evaluation.evaluation_plan import EvaluationPlan
from spade_cli.evaluation.measures.single_deletion import find_drops
from spade_cli.run.calibrate import SampleBatches
from spade_cli.run.make_trace import CalibratedImage, calibrate_image, read_answer

# Added to the seed for the augmentations that fidelity is measured on: none of them made a trace.
HELD_OUT_SEED = 1_000_003


@dataclass
class Case:
    """An example as the network sees it, and its calibrations, made when they are first asked for.

    x: (1, 3, H, W) normalised, on the device. logits: (classes,), of the dense network. mask: bool (H, W).
    """

    plan: EvaluationPlan
    index: int
    example: Example
    x: Tensor
    logits: Tensor
    target: int
    mask: Tensor | None
    _calibrations: dict[int, CalibratedImage] = field(default_factory=dict)
    covered: dict[tuple[object, ...], Tensor] = field(default_factory=dict)  # maps by method and networks
    _made: dict[tuple[int, Callable[[CalibratedImage], Networks]], Networks] = field(default_factory=dict)

    def calibration(self, index: int) -> CalibratedImage:
        """The statistics of one of the examples, this or another, for every layer that a condition prunes."""
        if index not in self._calibrations:
            example = self.example if index == self.index else self._load_other(index)
            self._calibrations[index] = self.calibrate(example, self.plan.classifier.model)
        return self._calibrations[index]

    def _load_other(self, index: int) -> Example:
        try:
            return self.plan.data.load(index)
        except UserError as error:  # the other picture's fault: the rest of this one is still measured
            raise SpadeError(f"the other image, {self.plan.data.names[index]}, cannot be read: {error}") from error

    def calibrate(self, example: Example, model: nn.Module) -> CalibratedImage:
        """An example's statistics on a dense network of the same layers."""
        plan, settings, own = self.plan, self.plan.request.trace, self.plan.classifier
        samples = settings.draw_samples(example.image, own.preprocessing)
        dense = replace(own, model=model)
        answer = read_answer(dense, example.image)
        return calibrate_image(dense, plan.layers, plan.calibrated_layers, samples, answer, settings)

    def networks(self, condition: Condition) -> Networks:
        """What a condition explains here. Raises SpadeError where it cannot be made.

        What several conditions make alike is made once.
        """
        index: int | None = self.index
        if condition.of_other:
            index = partner(self.plan.data, self.index, alike=False)
            if index is None:
                raise SpadeError("no other image has another class")
        assert index is not None
        key = (index, condition.make)
        made = self._made.get(key) or condition.make(self.calibration(index))
        if self.is_shared(condition):
            self._made[key] = made
        return condition.choose_networks(made)

    def is_shared(self, condition: Condition) -> bool:
        """Whether another condition explains networks that are made alike."""
        return sum(other.make == condition.make for other in self.plan.conditions) > 1

    @cached_property
    def held_out(self) -> SampleBatches:
        """Augmentations that no trace was made from."""
        settings, own = self.plan.request.trace, self.plan.classifier
        others = replace(settings, sample_count=self.plan.request.held_out, seed=settings.seed + HELD_OUT_SEED)
        samples = others.draw_samples(self.example.image, own.preprocessing)
        return SampleBatches(samples, own, settings.calibration.batch_size)

    @cached_property
    def cell_drops(self) -> Tensor:
        """What the dense network's logit of the target loses without each cell of the grid: (g, g)."""
        return find_drops(self.plan.classifier.model, self.x, self.target)

    @cached_property
    def held_out_logits(self) -> Tensor:
        """What the dense network says about them: (samples, classes)."""
        return run_held_out(self.plan.classifier.model, self.held_out)


@torch.no_grad()
def run_held_out(model: nn.Module, samples: SampleBatches) -> Tensor:
    """Logits (samples, classes) on the CPU."""
    return torch.cat([model(batch).float().cpu() for batch in samples])


@torch.no_grad()
def open_case(plan: EvaluationPlan, index: int, example: Example) -> Case:
    """An example, ready to be explained.

    Raises SpadeError where it cannot be: the dense network does not give it its labelled class, and why it says that
    class is no question then. UserError is for a network on which nothing can be measured.
    """
    classifier = plan.classifier
    answer = read_answer(classifier, example.image, example.target)
    if example.target is not None and not classifier.output.answers(answer.logits)[answer.target]:
        said = classifier.output.name_answer(answer.logits, classifier.label)
        raise SpadeError(f"the network answers {said}, not {classifier.label(answer.target)}")
    mask = None if example.mask is None else network_mask(example.mask, classifier)
    if mask is not None and (not mask.any() or mask.all()):
        raise SpadeError("its mask covers nothing, or everything, of what the network sees of it")
    return Case(plan, index, example, answer.x, answer.logits, answer.target, mask)
