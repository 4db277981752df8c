"""What a tuning is asked for, and the same with every choice made, before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from spade_cli.errors import UserError
from spade_cli.evaluation.conditions import Condition, dense_condition
from spade_cli.evaluation.evaluation_plan import EvaluationPlan, EvaluationRequest, plan_evaluation
from spade_cli.pruning import body
from spade_cli.run.request import try_pruner
from spade_cli.tuning.space import Space
from spade_cli.tuning.tpe import check_optuna

TUNERS = ("tpe", "greedy")
TUNED = "tuned"  # the condition that is compared with the dense network
MEASURED = {  # metric -> the family of `spade eval` that measures it
    **{f"{what}_{how}": "localisation" for what in ("trojan", "object") for how in ("auc", "mass", "rank", "pointing")},
    "insertion": "insertion",
    "deletion": "insertion",
}


@dataclass(frozen=True)
class TuningRequest:
    """What `spade tune` is asked for; pictures, network, methods and samples as an evaluation has them."""

    evaluation: EvaluationRequest  # of one metric's family, without conditions; it has the pruner
    metric: str
    tuner: str
    trials: int  # of tpe
    blocks: int | None  # the last so many; None: all
    ladder: tuple[float, ...]
    held_out: float  # share of the images
    lost: float  # share of the tuning images that may lose their top-1


@dataclass(frozen=True)
class TuningPlan:
    """A request after every choice is made."""

    request: TuningRequest
    evaluation: EvaluationPlan  # its last condition has the layers that are tuned, and makes no network of its own
    blocks: Mapping[str, tuple[str, ...]]  # layers by block, from the output to the input
    space: Space


def plan_tuning(request: TuningRequest) -> TuningPlan:
    """Decide everything that can be the user's mistake. Raises UserError."""
    if request.tuner == "tpe":
        check_optuna()
    if not request.ladder or any(isinstance(share, bool) or not 0 < share < 1 for share in request.ladder):
        raise UserError(f"ladder={list(request.ladder)}: give shares between 0 and 1, such as [0.9,0.95,0.99]")
    try_pruner(request.evaluation.trace.pruner, "pruner")
    plan = plan_evaluation(request.evaluation)
    if len(plan.data.names) < 2:
        raise UserError(f"data={request.evaluation.data}: one picture cannot be tuned on and held out; give more")
    found = body(plan.layers)
    if not found:
        raise UserError(f"model={plan.classifier.name} has no layer that can be pruned; see spade layers")
    blocks = {name: found[name] for name in list(found)[: request.blocks]}
    tuned = Condition(TUNED, _refuse_network, tuple(name for block in blocks.values() for name in block))
    space = Space(tuple(blocks), tuple(sorted(set(request.ladder))))
    return TuningPlan(request, replace(plan, conditions=(dense_condition(), tuned)), blocks, space)


def _refuse_network(_: object) -> NoReturn:
    raise AssertionError("a trial's shares make the network")
