"""One image -> its record: every condition's network, every method's map of it, every measure of both."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.case import Case, open_case, run_held_out
from spade_cli.evaluation.conditions import DENSE, Condition, Networks
from spade_cli.evaluation.data import partner
from spade_cli.evaluation.evaluation_plan import BEST, EvaluationPlan
from spade_cli.evaluation.measures import localisation
from spade_cli.evaluation.measures.aggregation import AGGREGATIONS, HOW, OWN, aggregate
from spade_cli.evaluation.measures.controls import CONTROLS
from spade_cli.evaluation.measures.fidelity import fidelity
from spade_cli.evaluation.measures.insertion import FILLS, KINDS, area, curve, symmetric_relevance_gain
from spade_cli.evaluation.measures.sanity import chance_overlap, kept_overlap, randomise_layers, rank_correlation
from spade_cli.evaluation.measures.single_deletion import single_deletion
from spade_cli.evaluation.records_folder import Curve, Record
from spade_cli.evaluation.study.concepts import ConceptStudy
from spade_cli.interpretation import explainable
from spade_cli.interpretation.saliency.smoothing import COVERING

# How much of the network is drawn anew: its last layer, half of its layers, all of them.
DEPTHS = {"randomised_last": 0.0, "randomised_half": 0.5, "randomised_all": 1.0}
OF_MAPS = ("localisation", "insertion", "sanity")  # what maps are needed for
DECIMALS = 4  # of a curve's points


def measure_image(
    plan: EvaluationPlan, index: int, study: ConceptStudy | None, on_condition: Callable[[int], None]
) -> Record:
    """Everything about one image. What cannot be measured is a failure with its reason.

    `study` is there where concepts are asked for; `on_condition` is told how many conditions are done. UserError is for
    mistakes that every image would repeat.
    """
    started = time.perf_counter()
    record = Record(index, plan.data.names[index])
    try:
        example = plan.data.load(index)
    except SpadeError as error:  # a picture that cannot be read is this image's fault alone
        return _leave_out(record, error, plan, on_condition)
    try:
        case = open_case(plan, index, example)
    except UserError:
        raise
    except SpadeError as error:
        return _leave_out(record, error, plan, on_condition)
    record.target = case.target
    maps: dict[str, dict[str, Tensor]] = {}
    for condition in plan.conditions:
        try:
            networks = case.networks(condition)
        except UserError:
            raise
        except SpadeError as error:
            record.fail(condition.name, "", error)
        else:
            measure_networks(case, condition, networks, study, record)
            maps[condition.name] = measure_maps(case, condition, networks.for_maps, record)
            if condition.name == DENSE:
                measure_controls(case, record)
        on_condition(1)
    if "sanity" in plan.request.metrics:
        compare_with_random(case, maps, record)
    record.seconds = time.perf_counter() - started
    return record


def _leave_out(record: Record, error: SpadeError, plan: EvaluationPlan, on_condition: Callable[[int], None]) -> Record:
    record.fail("", "", error)
    on_condition(len(plan.conditions))
    return record


@torch.no_grad()
def measure_networks(
    case: Case, condition: Condition, networks: Networks, study: ConceptStudy | None, record: Record
) -> None:
    """Measures of networks as they are, without any map."""
    wanted, network = case.plan.request.metrics, networks.network
    if "fidelity" in wanted:
        logits = network(case.x)[0].float().cpu()  # (classes,)
        held = run_held_out(network, case.held_out)
        both = (case.logits, logits, case.held_out_logits, held)
        record.add(condition.name, "", fidelity(*both, case.target, case.plan.classifier.output))
    if "sanity" in wanted and condition.layers and not condition.of_other:
        try:
            record.add(condition.name, "", overlaps(case, condition, network))
        except SpadeError as error:
            record.fail(condition.name, "overlap", error)
    concept, trojan = case.example.concept, case.example.trojan
    if study is not None:
        try:
            visualized = networks.for_visualization
            found = study.ask(condition, visualized, case.target, concept, trojan, record.image)
            record.add(condition.name, "", found)
        except SpadeError as error:
            record.fail(condition.name, "concepts", error)


def overlaps(case: Case, condition: Condition, network: nn.Module) -> dict[str, float]:
    """How many kept weights this image's trace shares with those of another of its kind, and of another class."""
    found = {}
    for name, alike in (("overlap_same", True), ("overlap_other", False)):
        other = partner(case.plan.data, case.index, alike)
        if other is not None:
            trace = condition.make(case.calibration(other)).network
            found[name] = kept_overlap(network, trace, condition.layers)
            found["overlap_chance"] = chance_overlap(network, trace, condition.layers)
    return found


def measure_maps(case: Case, condition: Condition, networks: Sequence[nn.Module], record: Record) -> dict[str, Tensor]:
    """Every method's mean map of these networks, measured; returns the relevance (H, W) by method."""
    request = case.plan.request
    if not request.saliency or not set(OF_MAPS) & set(request.metrics):
        return {}
    safe, found = [explainable(network, case.x) for network in networks], {}
    for method, explain in request.saliency.items():
        try:
            key = (method, *networks)
            raw = case.covered.get(key)  # (3, H, W)
            if raw is None:
                raw = condition.smooth_method(explain)(safe, case.x, case.target).map
            if method in COVERING and case.is_shared(condition):
                case.covered[key] = raw  # it is not smoothed, so it is the same where only the smoothing differs
        except UserError:
            raise
        except SpadeError as error:
            record.fail(condition.name, method, error)
            continue
        found[method] = aggregate(raw, AGGREGATIONS.get(method, OWN))
        record.add(condition.name, method, against_mask(case, raw, found[method]))
        if "insertion" in request.metrics and not case.example.trojan:
            insert_and_delete(case, condition.name, method, found[method], record)
    return found


def measure_controls(case: Case, record: Record) -> None:
    """Maps that know nothing of the network, measured as if they were of the dense one."""
    request = case.plan.request
    for name in request.controls if set(OF_MAPS) & set(request.metrics) else ():
        relevance = CONTROLS[name](case.x, request.seed + case.index).cpu()  # (H, W)
        record.add(DENSE, name, against_mask(case, relevance[None], relevance))
        if "insertion" in request.metrics and not case.example.trojan:
            insert_and_delete(case, DENSE, name, relevance, record)


def against_mask(case: Case, raw: Tensor, relevance: Tensor) -> dict[str, float]:
    """Where a map's relevance lies, if it is known where it should: raw (3, H, W), relevance (H, W)."""
    if case.mask is None or "localisation" not in case.plan.request.metrics:
        return {}
    what = "mosaic" if case.example.mosaic else "trojan" if case.example.trojan else "object"
    maps, masks = relevance[None], case.mask[None].cpu()
    values = {
        f"{what}_auc": localisation.roc_auc(maps, masks),
        f"{what}_mass": localisation.mass_inside(maps, masks),
        f"{what}_rank": localisation.rank_accuracy(maps, masks),
        f"{what}_pointing": localisation.pointing_game(maps, masks, case.plan.request.tolerance),
    }
    if case.plan.request.aggregation == BEST and case.example.trojan:
        values |= {f"trojan_auc_{how}": localisation.roc_auc(aggregate(raw, how)[None], masks) for how in HOW}
    return {name: value.item() for name, value in values.items()}


def insert_and_delete(case: Case, condition: str, method: str, relevance: Tensor, record: Record) -> None:
    """Curves of the dense network, whatever network the map is of, and the areas under them; single deletion."""
    request, maps = case.plan.request, relevance[None]
    for name in request.fills:
        suffix, curves = "" if name == "mean" else f"_{name}", {}
        for kind in request.curves:
            curves[kind] = points = curve(
                case.plan.classifier.model,
                case.x,
                case.target,
                maps,
                kind,
                batch_size=request.trace.calibration.batch_size,
                seed=request.seed,
                output=case.plan.classifier.output,
                fill=FILLS[name](case.x),
            )
            record.add(condition, method, {f"{kind}{suffix}": area(points).item()})
            rounded = [round(value, DECIMALS) for value in points[0].tolist()]
            record.curves.append(Curve(condition, method, f"{kind}{suffix}", rounded))
        if set(curves) == set(KINDS):
            record.add(condition, method, {f"srg{suffix}": symmetric_relevance_gain(**curves).item()})
    if set(request.curves) == set(KINDS):
        record.add(condition, method, {"single_deletion": single_deletion(maps, case.cell_drops).item()})


def compare_with_random(case: Case, maps: dict[str, dict[str, Tensor]], record: Record) -> None:
    """How similar each map is to the map of a randomised network, or of a trace made from that network."""
    plan = case.plan
    conditions = [c for c in plan.conditions if (c.layers or c.name == DENSE) and not c.of_other and c.name in maps]
    for metric, share in DEPTHS.items():
        model, _ = randomise_layers(plan.classifier.model, share or 1e-9, plan.request.seed)  # 1e-9: one layer at least
        calibration = case.calibrate(case.example, model)
        for condition in conditions:
            try:
                networks = condition.choose_networks(condition.make(calibration))
                safe = [explainable(network, case.x) for network in networks.for_maps]
            except SpadeError as error:
                record.fail(condition.name, metric, error)
                continue
            for method, relevance in maps[condition.name].items():
                try:
                    explain = condition.smooth_method(plan.request.saliency[method])
                    raw = explain(safe, case.x, case.target).map
                except SpadeError as error:
                    record.fail(condition.name, f"{method}, {metric}", error)
                    continue
                again = aggregate(raw, AGGREGATIONS.get(method, OWN))
                record.add(condition.name, method, {metric: rank_correlation(relevance[None], again[None]).item()})
