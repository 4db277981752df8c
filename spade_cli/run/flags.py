"""The flags of a run: what a reader of the maps must see, and why a trace is unfaithful."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from spade_cli.pruning import Fidelity, Judge, Trace, breaking_layer
from spade_cli.pruning.fidelity import LEAST_KEPT
from spade_cli.report.summary import FidelityRecord, Predictions
from spade_cli.run.explain import Explanations
from spade_cli.run.request import ImagePlan

LEAST_AGREEMENT = 0.5  # of the samples; good traces can differ on many crops that lack the evidence, but not on most
ADVICE = "use schedule=auto, lower pruner.sparsity or prune fewer layers"


def list_flags(
    plan: ImagePlan,
    trace: Trace,
    predictions: Predictions,
    fidelity: FidelityRecord,
    results: Sequence[Explanations],
) -> Iterator[str]:
    """What a reader of the pictures has to know, most important first; one line each."""
    unfaithful = flag_unfaithful(plan, trace, predictions, fidelity)
    if unfaithful is not None:
        yield unfaithful
    if plan.classifier.weights == "none":
        yield "the network is untrained (model.weights=none): its explanations mean nothing"
    yield from plan.notes
    yield from plan.classifier.notes
    if plan.channels and plan.run_plan.shares.head and not (trace.others and trace.others.visualization_trials):
        yield "no share of schedule.head keeps the answer: visualizations are of a trace whose head is dense"
    for layer in trace.layers:
        if layer.left and plan.run_plan.shares.given.get(layer.name):
            yield f"layer {layer.name} was left dense: {layer.left}"
    for result in results:
        yield from result.flags


def flag_unfaithful(plan: ImagePlan, trace: Trace, predictions: Predictions, fidelity: FidelityRecord) -> str | None:
    """Why the trace is unfaithful, and which layer broke it; None where it is faithful."""
    dense, pruned = predictions.dense, predictions.trace
    if not fidelity.same_prediction:
        layer = find_breaking_layer(plan, trace, lambda found: found.same_prediction)
        return (
            f"the trace predicts {pruned.label}, the dense network {dense.label}: it is not faithful; pruned "
            f"from the output back, the answer changes at {layer}; {ADVICE}"
        )
    before, after = dense.target_probability, pruned.target_probability
    if after < before * LEAST_KEPT:
        layer = find_breaking_layer(plan, trace, lambda found: found.pruned >= found.dense * LEAST_KEPT)
        return (
            f"the target's probability falls from {before:.1%} to {after:.1%} on the trace; pruned from the output "
            f"back, it is halved at {layer}; {ADVICE}"
        )
    if plan.run_plan.shares.is_searched:  # it seeks the largest difference that keeps this image's answer
        return flag_failed_search(plan.run_plan.shares.given, trace)
    if fidelity.agreement < LEAST_AGREEMENT:
        return f"the trace agrees with the dense network on {fidelity.agreement:.0%} of the samples only; {ADVICE}"
    return None


def flag_failed_search(given: Mapping[str, float], trace: Trace) -> str | None:
    """How near schedule=auto came, where none of its trials was faithful; `given` are the shares that it kept."""
    if not trace.trials or any(trial.faithful for trial in trace.trials):
        return None
    gentlest = min(trace.trials, key=lambda trial: (len(trial.shares), min(trial.shares.values())))
    (block, share), *_ = gentlest.shares.items()
    left = "only what schedule.layers names is pruned" if any(given.values()) else "this is the dense network"
    fidelity = gentlest.fidelity
    effect = f"takes the target's probability from {fidelity.dense:.1%} to {fidelity.pruned:.1%}"
    if not fidelity.same_prediction:
        effect += " and changes the answer"
    return (
        f"schedule=auto found no trace that keeps the prediction: {left}; {block} alone at "
        f"{share:g} {effect}; lower schedule.fidelity, or give shares with schedule.layers"
    )


def find_breaking_layer(plan: ImagePlan, trace: Trace, holds: Callable[[Fidelity], bool]) -> str:
    """The layer at which the trace's fidelity no longer holds, in words."""
    pruned = [layer.name for layer in trace.layers if layer.left is None]
    judge = Judge(plan.x, plan.answer.logits, plan.question, output=plan.classifier.output)
    return breaking_layer(plan.classifier.model, trace.model, pruned, judge, holds) or "no single layer"
