"""What a run found, in sentences, from its summary.json; keys that an older summary lacks are left unsaid."""

from collections.abc import Mapping
from typing import Any

from spade_cli.networks.scores import Output
from spade_cli.report.render import number, percent

Summary = Mapping[str, Any]


def question(found: Summary) -> str:
    """The page's title."""
    return f"Why {found['target']['label']}?"


def answers(found: Summary) -> str:
    """What both networks say about the image."""
    dense, trace = found["prediction"]["dense"], found["prediction"]["trace"]
    kept = f"keeps {percent(1 - found['sparsity']['achieved'])} of the weights"
    says = "says so too" if found["fidelity"]["same_prediction"] else f"says {trace['label']}"
    if found["model"].get("output") == Output.SIGMOID:
        target = found["target"]["label"]
        gives = f"{percent(dense['target_probability'])} to {target}, the trace {percent(trace['target_probability'])}"
        return (
            f"The dense network says {dense['label']}. Its trace for this image, which {kept}, {says}. Each label has "
            f"a probability of its own: the dense network gives {gives}."
        )
    text = (
        f"The dense network says {dense['label']} ({percent(dense['probability'])}). "
        f"Its trace for this image, which {kept}, {says} ({percent(trace['probability'])})."
    )
    if dense["index"] == found["target"]["index"]:
        return text
    gives = f"{percent(dense['target_probability'])} on the dense network, {percent(trace['target_probability'])}"
    return f"{text} You asked about {found['target']['label']}, which has {gives} on the trace."


def verdict(found: Summary) -> tuple[bool, str]:
    """Whether the trace may be believed, and why."""
    fidelity, samples = found["fidelity"], found["augmentation"]["samples"]
    measured = f"on {percent(fidelity['agreement'])} of {samples} augmented copies both networks give the same answer"
    if not fidelity["same_prediction"]:
        return False, (
            f"The trace is not faithful: it gives this image another answer than the dense network; {measured}. "
            "Its maps may explain something else. Prune less."
        )
    if not fidelity.get("faithful", True):
        return False, f"The trace is hardly faithful: {measured}. Read its maps with care, or prune less."
    return True, (
        f"The trace is faithful: it keeps the answer to this image. Answers to other pictures may change; {measured}."
    )


def facts(found: Summary) -> list[tuple[str, str, str]]:
    """Key figures: name, figure, and what it means."""
    sparse, fidelity, layers = found["sparsity"], found["fidelity"], found["layers"]
    pruned = sum(layer["left"] is None for layer in layers)
    listed = [
        ("agreement", percent(fidelity["agreement"]), "of the samples get the same answer from both networks"),
        ("KL", number(fidelity["kl"]), "nats, mean divergence of the trace's answers from the dense network's"),
        ("weights left", percent(1 - sparse["achieved"]), f"{sparse['weights_kept']:,} of {sparse['weights_total']:,}"),
        ("layers pruned", f"{pruned} of {len(layers)}", f"{found['pruner']}, schedule {found['schedule']}"),
    ]
    model = found["model"]
    if "output" in model:
        listed.append(("probabilities", model["output"], Output(model["output"]).describe(model["classes"])))
    if "total" in found.get("seconds", {}):
        listed.append(("time", f"{found['seconds']['total']:.0f} s", f"on {found['device']}"))
    return listed


def left_dense(found: Summary) -> dict[str, list[str]]:
    """Why layers were not pruned -> their names."""
    reasons: dict[str, list[str]] = {}
    for layer in found["layers"]:
        if layer["left"] is not None:
            reasons.setdefault(layer["left"], []).append(layer["name"])
    return reasons


def checks(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A map's checks, named for people."""
    return [(name.replace("_", " "), number(value)) for name, value in record["checks"].items()]
