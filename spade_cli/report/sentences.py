"""What a run found, in sentences, from its summary."""

from spade_cli.networks.scores import Output
from spade_cli.report.render import number, percent
from spade_cli.report.summary import SaliencyRecord, Summary, join_words


def ask_why(summary: Summary) -> str:
    """The page's title."""
    return f"Why {summary.target.words}?"


def tell_answers(summary: Summary) -> str:
    """What both networks say about the image."""
    dense, trace, target = summary.prediction.dense, summary.prediction.trace, summary.target.label
    kept = f"keeps {percent(1 - summary.sparsity.achieved)} of the weights"
    says = "says so too" if summary.fidelity.same_prediction else f"says {trace.label}"
    if summary.model.output == Output.SIGMOID:
        if summary.target.against:
            return f"The dense network says {dense.label}. Its trace, which {kept}, {says}. {tell_contrast(summary)}"
        gives = f"{percent(dense.target_probability)} to {target}, the trace {percent(trace.target_probability)}"
        return (
            f"The dense network says {dense.label}. Its trace for this image, which {kept}, {says}. Each label has "
            f"a probability of its own: the dense network gives {gives}."
        )
    text = (
        f"The dense network says {dense.label} ({percent(dense.probability)}). "
        f"Its trace for this image, which {kept}, {says} ({percent(trace.probability)})."
    )
    if summary.target.against:
        return f"{text} {tell_contrast(summary)}"
    if dense.index == summary.target.index:
        return text
    gives = f"{percent(dense.target_probability)} on the dense network, {percent(trace.target_probability)}"
    return f"{text} You asked about {target}, which has {gives} on the trace."


def tell_contrast(summary: Summary) -> str:
    """What a contrast compares, and how sure both networks are of it."""
    against, label = summary.target.against, summary.target.label
    others = join_words([one.label for one in against], "and")
    if len(against) == 1 and against[0].weight == -1:
        score = f"the score of {label} minus the score of {others}"
    else:
        share = f"{-sum(one.weight for one in against):.2g}"
        score = f"the score of {label} minus {share} times the mean score of its nearest rivals, {others}"
    means = "The sigmoid of this score"
    if len(against) == 1 and summary.model.output != Output.SIGMOID:
        means = f"The probability of {label}, where only {label} and {others} can be the answer,"
    dense, trace = (percent(one.target_probability) for one in (summary.prediction.dense, summary.prediction.trace))
    asked = f"You asked why {summary.target.words}: the maps explain {score}."
    return f"{asked} {means} is {dense} on the dense network and {trace} on the trace."


def judge_trace(summary: Summary) -> tuple[bool, str]:
    """Whether the trace may be believed, and why."""
    fidelity, samples = summary.fidelity, summary.augmentation.samples
    measured = f"on {percent(fidelity.agreement)} of the {samples} samples both networks give the same answer"
    if not fidelity.same_prediction:
        return False, (
            f"The trace is not faithful: it gives this image another answer than the dense network; {measured}. "
            "Its maps may explain something else. Prune less."
        )
    if not fidelity.faithful:
        return False, f"The trace is hardly faithful: {measured}. Read its maps with care, or prune less."
    return True, (
        f"The trace is faithful: it keeps the answer to this image. Answers to other pictures may change; {measured}."
    )


def list_figures(summary: Summary) -> list[tuple[str, str, str]]:
    """Key figures: name, figure, and what it means."""
    sparsity, fidelity, model = summary.sparsity, summary.fidelity, summary.model
    kept, pruned = percent(1 - sparsity.achieved), f"{summary.layers_pruned} of {len(summary.layers)}"
    listed = [
        ("agreement", percent(fidelity.agreement), "of the samples get the same answer from both networks"),
        ("KL", number(fidelity.kl), "nats, mean divergence of the trace's answers from the dense network's"),
        ("weights left", kept, f"{sparsity.weights_kept:,} of {sparsity.weights_total:,}"),
        ("layers pruned", pruned, f"{summary.pruner}, schedule {summary.schedule}"),
    ]
    if model.output is not None and model.classes is not None:
        listed.append(("probabilities", model.output, Output(model.output).describe(model.classes)))
    return [*listed, ("time", f"{summary.seconds['total']:.0f} s", f"on {summary.device}")]


def tell_means(summary: Summary) -> str:
    """Over what the maps are means: noisy copies of the image, and several traces; "" where they are none."""
    several = ""
    if len(summary.map_traces) > 1:
        several = f"The trace's map is the mean over {len(summary.map_traces)} faithful traces."
    smoothed = {(record.samples, record.noise) for record in summary.saliency if record.samples > 1}
    if not smoothed:
        return several
    samples, noise = max(smoothed)
    plain = dict.fromkeys(record.method.replace("_", " ") for record in summary.saliency if record.samples == 1)
    without = f", except {' and '.join(plain)}" if plain else ""
    of_range = f"standard deviation {percent(noise)} of its range"
    says = f"Each map is the mean over {samples} copies of the image with noise ({of_range}){without}."
    return f"{says} {several}".strip()


def tell_visualized_trace(summary: Summary) -> str:
    """Which trace a visualization is of, where it is not the one in the checkpoint; else ""."""
    if not summary.visualization_traces:
        return ""
    first, label = summary.visualization_traces[0], summary.target.label
    reads = percent(1 - next(iter(first.shares.values())))  # the head comes first
    text = (
        f"The trace is here one whose head is pruned as well: {label} reads {reads} of the channels before it, and has "
        f"a probability of {percent(first.fidelity.pruned)}."
    )
    several = len(summary.visualization_traces)
    return text if several == 1 else f"{text} {several} such traces are excited together."


def group_dense_layers(summary: Summary) -> dict[str, list[str]]:
    """Why layers were not pruned -> their names."""
    reasons: dict[str, list[str]] = {}
    for layer in summary.layers:
        if layer.left is not None:
            reasons.setdefault(layer.left, []).append(layer.name)
    return reasons


def list_checks(record: SaliencyRecord) -> list[tuple[str, str]]:
    """A map's checks, named for people."""
    return [(name.replace("_", " "), number(value)) for name, value in record.checks.items()]
