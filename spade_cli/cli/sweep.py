"""spade sweep: explain images with every combination of settings, side by side, from one calibration an image."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.batch import FREE, OWN, batch_request, do_batch, find_about, find_out, shared_request
from spade_cli.cli.config.compose import CommandLine, compose_config, read_settings, run_command
from spade_cli.cli.config.typed_words import FREE_TEXT, WHOLE, group, key, quote, resume, split_flags
from spade_cli.errors import UserError
from spade_cli.files import leave_out_storage

USAGE = "spade sweep image=PATH KEY=VALUE,VALUE,... [KEY=VALUE ...]  |  spade sweep resume=FOLDER"
EXAMPLES = (
    "spade sweep image=cat.jpg model=resnet18 pruner.sparsity=0.5,0.8,0.95 pruner=forward,sparsegpt",
    "spade sweep images=photographs schedule=late,uniform pruner.sparsity=0.8,0.95 interpreter=saliency workers=auto",
    "spade sweep resume=outputs/2026-01-31/12-00-00-sweep-cat",
)
STATISTICS = ("model", "augmentation", "seed", "device", "calibration")  # what an image's statistics depend on
EXPLANATIONS = ("model", "interpreter", "target", "seed", "device")  # and what is made of the dense network
MOST = 1000  # jobs an image: a slip such as range(0,1,0.0001) is refused


def main(arguments: list[str]) -> int:
    """Compose every combination and explain, or resume a sweep that was stopped."""
    resumed = resume(arguments, main, partial(find_about, "sweep"), *FREE)
    if resumed is not None:
        return resumed
    flags, fixed, varied = split_values(arguments)
    combinations = list(product(*varied.values()))
    if len(combinations) > MOST:
        raise UserError(f"these settings make {len(combinations)} combinations: give at most {MOST}")

    def task(config: dict[str, Any], line: CommandLine) -> None:
        _sweep(config, replace(line, command=shlex.join(["spade", "sweep", *typed])), typed, fixed, combinations)

    typed = [word for word in arguments if word not in terminal.VIEWS]
    return run_command("sweep", [*flags, *fixed, *combinations[0]], task, USAGE, EXAMPLES)


def split_values(arguments: Sequence[str]) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Flags, the settings with one value, and the words of each setting with several, quoted for Hydra.

    >>> split_values(["image=a,b.png", "seed=1,2", "pruner=obs"])
    ([], ["images='a,b.png'", 'pruner=obs'], {'seed': ['seed=1', 'seed=2']})
    """
    flags, words = split_flags(["images=" + word[6:] if word.startswith("image=") else word for word in arguments])
    fixed: list[str] = []
    varied: dict[str, list[str]] = {}
    for word in words:
        start, _, _ = word.partition("=")
        values = _values(word)
        if len(values) > 1:
            varied[start] = list(dict.fromkeys(f"{start}={value}" for value in values))
        else:
            fixed.append(quote(word))
    return flags, fixed, varied


def _values(word: str) -> list[str]:
    """The values of a word that a comma separates, or a function of Hydra's such as range(5); [] for one value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from spade_cli.cli.config.translate_errors import COMPOSING_ERRORS, translate

    start, _, value = word.partition("=")
    if group(word) in OWN or key(word) in WHOLE:
        return []
    if key(word) in FREE_TEXT and not re.search(r"['\"]", value):
        return [quote(f"{start}={piece}").removeprefix(f"{start}=") for piece in value.split(",")]
    try:
        override = OverridesParser.create().parse_override(word)
    except COMPOSING_ERRORS as error:
        raise translate(error, "sweep", [word], []) from error
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else []


def _sweep(
    config: dict[str, Any], line: CommandLine, typed: list[str], fixed: list[str], combinations: list[tuple[str, ...]]
) -> None:
    from spade_cli.batch.curves import draw_curves
    from spade_cli.batch.sweep_image import SweepWork
    from spade_cli.cli.config.check_values import path

    jobs = tuple(_job(number, fixed, own, line) for number, own in enumerate(combinations))
    out = find_out(config.get("out"), "sweep", config.get("images"))
    images = path("images", config.get("images"), "FOLDER")
    masks = str(images) if (images / "labels.json").is_file() else None
    settings = {job.number: job.settings for job in jobs}
    request = batch_request(
        config,
        line,
        SweepWork(jobs, out, masks),
        out,
        combined=[job.settings for job in jobs],
        arguments=tuple(typed),
        kind="sweep",
        table="sweep.csv",
        varied=tuple(jobs[0].settings),
        jobs=len(jobs),
        figure=lambda rows, file, images: draw_curves(rows, settings, file, images),
    )
    do_batch(request, line.views)


def _job(number: int, fixed: Sequence[str], own: Sequence[str], line: CommandLine) -> Any:
    from spade_cli.batch.sweep_image import Job
    from spade_cli.report.run_folder import slug

    composed, choices = compose_config("sweep", [*fixed, *own], line.folders)
    config = read_settings(composed, "sweep")
    settings = {key(word): _value(word.partition("=")[2]) for word in own}
    parts = leave_out_storage(config)
    return Job(
        number,
        settings,
        slug("-".join(str(value) for value in settings.values())[:60]) if settings else "only",
        shared_request(config, replace(line, choices=choices)),
        *(_text(parts, names) for names in (("model", "seed", "device"), STATISTICS, EXPLANATIONS)),
    )


def _text(config: dict[str, Any], names: Sequence[str]) -> str:
    return json.dumps({name: config.get(name) for name in names}, sort_keys=True, default=str)


def _value(text: str) -> Any:
    """As a number, where it is one: levels are put in order."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")
