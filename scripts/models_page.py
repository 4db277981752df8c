"""docs/models.md, from what `model_matrix.py` found: a table of networks and methods, reasons, and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spade_cli.inspection.examine import FAILS, FLAGGED, SKIPPED, WORKS
from spade_cli.interpretation import PAPER_METHODS

LIBRARIES = {"torchvision": "{}", "timm": "timm {}", "openclip": "open_clip {}", "trained": "**{}, trained**"}
PAGE = Path(__file__).parents[1] / "docs" / "models.md"

PAGE_TEXT = """\
# Networks

What works on which network, tried by `scripts/model_matrix.py` on {count} networks: a trace by each of the {pruners}
pruners, each of the {methods} saliency methods, and visualizations. Weights are random, but for the rows that say
*trained*, whose packages carry weights. Of {tried} things tried, {works} worked without a warning. `spade doctor
model=...` does the same for one network, yours included, on its real weights.

- **layers**: prunable by default / reached by a run / all. A layer that is not reached is never pruned.
- **traces**: how many pruners pruned one small layer of each kind (attention projections and depthwise convolutions
  included) to half, with every other layer left as it was.
- **ok**: a finite map that is not the same everywhere, whose own check held: the sums of DeepLift and Integrated
  Gradients ({points} steps, its default), the conservation of LRP.
- **flag**: drawn, with a warning in the report. **skip**: not drawn. The number is the reason, below.
- **visualizations**: of a class and of a channel, {steps} steps: how many were neither grey nor NaN.

{matrix}

{missing}
## Reasons

{listed}

## The networks most people use

- **worst error of a trace**: squared error of a layer pruned to half by `forward`, over its squared output.
- **DeepLift delta, Integrated Gradients delta**: the error of a map's sum, relative to the difference in output that it
  explains (limits 1 % and 5 %). The second falls with the number of steps; deep ReLU networks with random weights,
  whose gradient changes all along the path, need a thousand and more.
- **LRP followed**: the share of the output that LRP's rules follow to pixels and class token. The rest comes from units
  that a bias alone switches on, and is spread ([trust.md](trust.md#relevance-that-biases-make)). **Without biases**:
  the same on a copy whose biases and BatchNorm shifts are zero: 1 where the rules lose nothing, which is their check.
- **guided from gradient**: the largest difference of guided backpropagation from the plain gradient, relative to the
  largest gradient: 0 without ReLU, and large if hundreds of ReLUs each stop the negative part.
- **contrast**: the standard deviation of a picture in [0, 1]; it starts at 0.003, and less than 0.01 is called blank.

{seven}
"""


def write_page(
    examinations: Sequence[Mapping[str, Any]],
    missing: Sequence[str],
    *,
    pruners: Sequence[str],
    seven: Sequence[str],
    steps: int,
    points: int,
) -> None:
    """Write docs/models.md; missing: networks that were not examined, seven: those with figures of their own."""
    notes: list[str] = []
    rows = [row(network, pruners, notes) for network in examinations]
    header = (
        "network",
        "size",
        "layers",
        "traces",
        *(name.replace("_", " ") for name in PAPER_METHODS),
        "visualizations",
    )
    works = sum(finding["verdict"] == WORKS for network in examinations for finding in network["findings"])
    tried = sum(len(network["findings"]) for network in examinations)
    listed = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    text = PAGE_TEXT.format(
        count=len(examinations),
        pruners=len(pruners),
        methods=len(PAPER_METHODS),
        tried=tried,
        works=works,
        matrix=table(header, rows),
        listed=listed,
        steps=steps,
        points=points,
        seven=figures_of([one for one in examinations if one["name"] in seven or one["library"] == "trained"]),
        missing=f"Not run for this page: {', '.join(missing)}.\n" if missing else "",
    )
    PAGE.write_text(text, encoding="utf-8")


def row(network: Mapping[str, Any], pruners: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """A network's cells; reasons that are new are added to the notes."""
    name = LIBRARIES[network["library"]].format(network["name"])
    if "error" in network:
        return name, f"**{network['error']}**"
    by_name = {finding["what"]: finding for finding in network["findings"]}
    traces = [by_name[f"trace by {pruner}"] for pruner in pruners if f"trace by {pruner}" in by_name]
    drawn = [finding for what, finding in by_name.items() if what.startswith("visualization")]
    return (
        name,
        str(network["size"]),
        f"{network['prunable']} / {network['reached']} / {network['layers']}{marks(network['left'], notes)}",
        join_cells(traces, notes),
        *(cell(by_name[method], notes) for method in PAPER_METHODS),
        join_cells(drawn, notes),
    )


def cell(finding: Mapping[str, Any], notes: list[str]) -> str:
    """One verdict with the numbers of its reasons."""
    word = {WORKS: "ok", FLAGGED: "flag", SKIPPED: "skip", FAILS: "**fails**"}[finding["verdict"]]
    return word + marks([generalise_reason(why) for why in finding["why"]], notes)


def join_cells(findings: Sequence[Mapping[str, Any]], notes: list[str]) -> str:
    """How many of several things worked."""
    works = sum(finding["verdict"] == WORKS for finding in findings)
    reasons = sorted({generalise_reason(why) for finding in findings for why in finding["why"]})
    return f"{works} of {len(findings)}{marks(reasons, notes)}"


def generalise_reason(why: str) -> str:
    """A reason without the method's name and the network's own figures, so that the same reason has one number."""
    text = why.split("; relevance sums")[0]
    for method in PAPER_METHODS:
        text = text.removeprefix(method).removeprefix(": ").strip()
    for word in text.split():
        bare = word.strip("(),:;%")
        if bare.replace(".", "").replace("-", "").replace("e", "").isdigit() and ("." in bare or "%" in word):
            text = text.replace(bare, "x", 1)
    return text


def marks(reasons: Sequence[str], notes: list[str]) -> str:
    """The numbers of reasons, which are added where they are new."""
    for reason in reasons:
        if reason not in notes:
            notes.append(reason)
    return "".join(f" [{notes.index(reason) + 1}]" for reason in reasons)


def figures_of(networks: Sequence[Mapping[str, Any]]) -> str:
    """The checks of the networks that most people use."""
    keys = (
        ("worst error of a trace (forward)", "trace by forward", "worst_error"),
        ("DeepLift delta", "deeplift", "relative_delta"),
        ("LRP followed", "lrp", "followed"),
        ("class token's part", "lrp", "class_token"),
        ("Integrated Gradients delta", "integrated_gradients", "relative_delta"),
        ("guided from gradient", "guided_backprop", "from_gradient"),
    )
    rows = []
    for network in networks:
        checks = {finding["what"]: finding["checks"] for finding in network["findings"]}
        contrast = [found["contrast"] for what, found in checks.items() if "contrast" in found]
        figures = [checks.get(what, {}).get(key) for _, what, key in keys]
        shown = [
            "" if figure is None else f"{figure:.2g}" if abs(figure) < 0.1 else f"{figure:.3f}" for figure in figures
        ]
        bare = network["unbiased"]
        shown.insert(3, "" if bare is None else f"{bare:.3f}")
        rows.append((LIBRARIES[network["library"]].format(network["name"]), *shown, f"{min(contrast):.2f}"))
    titles = [title for title, _, _ in keys]
    titles.insert(3, "without biases")
    header = ("network", *titles, "least contrast of a visualization")
    return table(header, rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
