"""spade sweep: explain images with every combination of options, side by side, from one calibration an image."""

import json
import shlex
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.batch import OWN, batch_request, command, finish, shared_request, where
from spade_cli.cli.config.compose import Asked, run_command
from spade_cli.cli.config.quoting import MULTIRUN, arrange, quote
from spade_cli.cli.config.resume import key, split_resume
from spade_cli.errors import UserError

USAGE = "spade sweep image=PATH KEY=VALUE,VALUE,... [KEY=VALUE ...]  |  spade sweep resume=FOLDER"
EXAMPLES = (
    "spade sweep image=cat.jpg model=resnet18 pruner.sparsity=0.5,0.8,0.95 pruner=forward,sparsegpt",
    "spade sweep images=photographs schedule=late,uniform pruner.sparsity=0.8,0.95 interpreter=saliency workers=auto",
    "spade sweep resume=outputs/2026-01-31/12-00-00-sweep-cat",
)
ONE = (*OWN, "image")  # values that are taken whole, commas and all
STATISTICS = ("model", "augmentation", "seed", "device", "calibration")  # what an image's statistics depend on
EXPLANATIONS = ("model", "interpreter", "target", "seed", "device")  # and what is made of the dense network
MOST = 1000  # jobs an image: a slip such as range(0,1,0.0001) is refused


def main(arguments: list[str]) -> int:
    """Compose every combination and explain, or go on with a sweep that was stopped."""
    if {"-h", "--help"} & set(arguments) or split_resume(arguments)[0]:
        return command("sweep", arguments, None, USAGE, EXAMPLES)
    if set(MULTIRUN) & set(arguments):
        raise UserError("spade sweep combines by itself: leave out -m")
    flags, fixed, varied = split(arguments)
    words = list(product(*varied.values()))
    if len(words) > MOST:
        raise UserError(f"these options make {len(words)} combinations: give at most {MOST}")
    task = partial(_sweep, arguments=arguments, fixed=fixed, words=words)
    return run_command("sweep", [*flags, *fixed, *words[0]], task, USAGE, EXAMPLES)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Hydra's flags, the options with one value, and the words of each option with several.

    >>> split(["image=a,b.png", "seed=1,2", "pruner=obs"])
    ([], ["images='a,b.png'", 'pruner=obs'], {'seed': ['seed=1', 'seed=2']})
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from spade_cli.cli.config.translate_errors import COMPOSING_ERRORS, translate

    flags, overrides = arrange(["images=" + word[6:] if word.startswith("image=") else word for word in arguments])
    fixed: list[str] = []
    varied: dict[str, list[str]] = {}
    for word, typed in zip(overrides, _plain(arguments), strict=True):
        found = None
        if key(word).split(".")[0] not in ONE:
            try:
                found = OverridesParser.create().parse_override(quote(typed, sweep=True))
            except COMPOSING_ERRORS as error:
                raise translate(error, "sweep", overrides, []) from error
        if found is None or not found.is_sweep_override():
            fixed.append(word)
        else:
            start = typed.partition("=")[0]
            varied[start] = list(dict.fromkeys(f"{start}={value}" for value in found.sweep_string_iterator()))
    return flags, fixed, varied


def _plain(arguments: Sequence[str]) -> list[str]:
    """The options as typed, without flags."""
    flags = set(arrange(list(arguments))[0])
    return [word for word in arguments if word not in flags]


def _sweep(
    config: dict[str, Any], asked: Asked, *, arguments: list[str], fixed: list[str], words: list[tuple[str, ...]]
) -> None:
    from spade_cli.batch.curves import draw_curves
    from spade_cli.batch.sweep_image import SweepWork
    from spade_cli.cli.config.values import path

    asked.command = shlex.join(["spade", "sweep", *arguments])
    jobs = tuple(_job(number, fixed, own, asked) for number, own in enumerate(words))
    out = where(config.get("out"), "sweep", config.get("images"))
    images = path("images", config.get("images"), "FOLDER")
    masks = str(images) if (images / "labels.json").is_file() else None
    options = {job.number: job.options for job in jobs}
    request = batch_request(
        config,
        asked,
        [word for word in arguments if word not in terminal.VIEWS],
        SweepWork(jobs, out, masks),
        out,
        kind="sweep",
        table="sweep.csv",
        options=tuple(jobs[0].options),
        jobs=len(jobs),
        combined=[job.options for job in jobs],
        figure=lambda rows, file, images: draw_curves(rows, options, file, images),
    )
    finish(request, asked.views)


def _job(number: int, fixed: Sequence[str], own: Sequence[str], asked: Asked) -> Any:
    from spade_cli.batch.sweep_image import Job
    from spade_cli.report.run_folder import slug

    config, choices = _composed(fixed, own)
    yaml = Asked(asked.command, choices, "", asked.overrides)
    options = {key(word): _value(word.partition("=")[2]) for word in own}
    calibration = {name: value for name, value in config["calibration"].items() if name not in ("save", "memory")}
    parts = {**config, "calibration": calibration}
    return Job(
        number,
        options,
        slug("-".join(str(value) for value in options.values())[:60]) if options else "only",
        shared_request(config, yaml),
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


def _composed(fixed: Sequence[str], own: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of one combination, and what it chose in each group."""
    from hydra import compose
    from omegaconf import OmegaConf

    from spade_cli.cli.config.translate_errors import COMPOSING_ERRORS, translate

    words = [*fixed, *own]
    try:
        config = compose("sweep", words, return_hydra_config=True)
        choices = dict(config.hydra.runtime.choices)
        plain = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
        content = OmegaConf.to_container(plain, resolve=True)
    except COMPOSING_ERRORS as error:
        raise translate(error, "sweep", words, []) from None
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}, choices
