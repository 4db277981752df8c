"""spade batch: explain many images, one network, one table; goes on where it was stopped."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.compose import Asked, run_command
from spade_cli.cli.config.resume import go_on, key, own_words, split_resume
from spade_cli.errors import UserError
from spade_cli.files import expand_path

USAGE = "spade batch images=FOLDER|PATTERN|LIST [KEY=VALUE ...]  |  spade batch resume=FOLDER"
EXAMPLES = (
    "spade batch images=photographs model=resnet18",
    "spade batch 'images=photographs/**/*.jpg' workers=auto out=explained",
    "spade batch images=list.txt interpreter=saliency batch.strict=true",
    "spade batch resume=explained",
    "spade batch resume=explained workers=2 batch.retry=true",
    "spade batch images=s3://bucket/photographs out=s3://bucket/explained   (needs s3fs)",
    "spade batch images=photographs engine=ray workers=8 engine.address=auto",
)
# Of the command, not of the images: results do not depend on them.
OWN = ("images", "out", "resume", "workers", "batch", "engine")
MOST = 10_000  # workers, or images at a time: more is a slip
FREE = ("workers", "batch", "engine")  # may be given anew when a batch is gone on with


def main(arguments: list[str]) -> int:
    """Compose the configuration and explain all images, or go on with a batch that was stopped."""
    return command("batch", arguments, _task(arguments), USAGE, EXAMPLES)


def command(verb: str, arguments: list[str], task: Any, usage: str, examples: tuple[str, ...]) -> int:
    """A batch or a sweep, anew or gone on with."""
    resumed, rest = split_resume(arguments)
    if not resumed or {"-h", "--help"} & set(rest):
        return run_command(verb, arguments, task, usage, examples)
    from spade_cli.batch.batch_folder import about_folder
    from spade_cli.cli import _verb

    other = [word for word in rest if word not in terminal.VIEWS and key(word).split(".")[0] not in FREE]
    if other:
        raise UserError(
            f"resume={resumed} goes on with its own command; leave out {' '.join(other)} (workers, engine, batch.*, "
            "--quiet, --plain and --json may be given)"
        )
    out = absolute(resumed)
    return go_on(out, about_folder(out, verb), _verb(verb).main, rest)


def _task(arguments: list[str]) -> Any:
    def task(config: dict[str, Any], asked: Asked) -> None:
        from spade_cli.batch.explain_images import BatchWork
        from spade_cli.cli.config.values import section

        shared = shared_request(config, asked)
        out = where(config.get("out"), "batch", config.get("images"))
        size = auto("batch.size", section(config, "batch").get("size"))
        words = own_words(arguments, asked.overrides)
        request = batch_request(config, asked, words, BatchWork(shared, out, size), out)
        finish(request, asked.views)

    return task


def finish(request: Any, views: Collection[str]) -> None:
    """Do it, and print its folder, also where some images failed."""
    from spade_cli.batch.batch import batch
    from spade_cli.errors import ImagesFailedError

    try:
        batch(request, terminal.console(views))
    except ImagesFailedError:
        _print_folder(request, views)
        raise
    _print_folder(request, views)


def _print_folder(request: Any, views: Collection[str]) -> None:
    terminal.print_made("folder", request.out, views, table=f"{request.out}/{request.table}")


def shared_request(config: Mapping[str, Any], asked: Asked) -> Any:
    """What `spade run` would be asked for, but for the image."""
    from omegaconf import OmegaConf

    from spade_cli.cli.config.settings import run_request

    shared = {name: value for name, value in config.items() if name not in OWN}
    yaml = OmegaConf.to_yaml(OmegaConf.create(shared))
    plain = Asked(asked.command, asked.choices, yaml, asked.overrides)
    return run_request({**shared, "image": "none yet", "out": "."}, plain)


def batch_request(
    config: dict[str, Any],
    asked: Asked,
    arguments: Sequence[str],
    work: Any,
    out: str,
    combined: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Any:
    """Everything that a batch was asked for. Raises UserError at the first value that makes no sense."""
    from spade_cli.batch.batch_request import BatchRequest
    from spade_cli.cli.config.settings import function_of
    from spade_cli.cli.config.values import path, section, text
    from spade_cli.images.download import is_url

    how = section(config, "batch")
    images = text("images", config.get("images"), "FOLDER")
    settings = {name: value for name, value in config.items() if name not in OWN}
    calibration = {name: value for name, value in settings["calibration"].items() if name not in ("save", "memory")}
    return BatchRequest(
        images=images if is_url(images) else str(path("images", images, "FOLDER")),
        out=out,
        work=work,
        engine=function_of("engine", section(config, "engine")),
        workers=auto("workers", config.get("workers")),
        strict=switch("batch.strict", how.get("strict")),
        retry=switch("batch.retry", how.get("retry")),
        command=asked.command,
        arguments=tuple(arguments),
        settings={**settings, "calibration": calibration, **({"combined": list(combined)} if combined else {})},
        **more,
    )


def auto(name: str, value: Any) -> int | None:
    """A whole number from 1, or auto as None."""
    from spade_cli.cli.config.values import whole

    return None if value == "auto" else whole(f"{name} (or auto)", value, 1, MOST)


def switch(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UserError(f"{name}={value} is neither true nor false; give one of them")
    return value


def where(value: Any, kind: str, images: Any) -> str:
    """The folder to write: as told, or a new one."""
    from spade_cli.cli.config.values import path, text
    from spade_cli.images.download import is_url

    if value not in (None, ""):
        written = text("out", value, "FOLDER")
        return written if is_url(written) else str(path("out", written, "FOLDER"))
    from spade_cli.report.run_folder import free_path

    return str(free_path(Path("outputs"), f"{kind}-{Path(str(images)).stem}"))


def absolute(out: str) -> str:
    """A path of the user's from the root on; URLs stay."""
    from spade_cli.images.download import is_url

    if is_url(out):
        return out
    return str(expand_path(out).resolve())
