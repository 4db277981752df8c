"""spade batch: explain many images, one network, one table; resumes where it was stopped."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.cli.config.typed_words import resume
from spade_cli.files import About, leave_out_storage

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
FREE = ("workers", "engine", "batch")  # may be given anew when a batch is resumed


def main(arguments: list[str]) -> int:
    """Compose the settings and explain all images, or resume a batch that was stopped."""
    resumed = resume(arguments, main, partial(find_about, "batch"), *FREE)
    return run_command("batch", arguments, _batch, USAGE, EXAMPLES) if resumed is None else resumed


def find_about(verb: str, out: str) -> About:
    """What a folder of `spade batch` or `spade sweep` says of its command. Raises UserError."""
    from spade_cli.batch.batch_folder import about_folder  # seconds, which --help has no use for

    return about_folder(out, verb)


def _batch(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.batch.explain_images import BatchWork
    from spade_cli.cli.config.check_values import section

    shared = shared_request(config, line)
    out = find_out(config.get("out"), "batch", config.get("images"))
    size = count_or_auto("batch.size", section(config, "batch").get("size"))
    do_batch(batch_request(config, line, BatchWork(shared, out, size), out, arguments=line.words), line.views)


def do_batch(request: Any, views: Collection[str]) -> None:
    """Do it, and print its folder, also where some images failed."""
    from spade_cli.batch.batch import batch
    from spade_cli.errors import ImagesFailedError

    failed = None
    try:
        batch(request, terminal.console(views))
    except ImagesFailedError as error:
        failed = error
    terminal.print_result("folder", request.out, views, table=f"{request.out}/{request.table}")
    if failed:
        raise failed


def shared_request(config: Mapping[str, Any], line: CommandLine) -> Any:
    """What `spade run` would be asked for, but for the image."""
    from omegaconf import OmegaConf

    from spade_cli.cli.config.settings import run_request

    shared = {name: value for name, value in config.items() if name not in OWN}
    yaml = OmegaConf.to_yaml(OmegaConf.create(shared))
    return run_request({**shared, "image": "none yet", "out": "."}, replace(line, yaml=yaml))


def batch_request(
    config: dict[str, Any],
    line: CommandLine,
    work: Any,
    out: str,
    combined: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Any:
    """Everything that a batch was asked for. Raises UserError at the first value that makes no sense."""
    from spade_cli.batch.batch_request import BatchRequest
    from spade_cli.cli.config.check_values import path, section, switch, text
    from spade_cli.cli.config.settings import function_of
    from spade_cli.images.download import is_url

    how = section(config, "batch")
    images = text("images", config.get("images"), "FOLDER")
    settings = {name: value for name, value in config.items() if name not in OWN}
    return BatchRequest(
        images=images if is_url(images) else str(path("images", images, "FOLDER")),
        out=out,
        work=work,
        engine=function_of("engine", section(config, "engine")),
        workers=count_or_auto("workers", config.get("workers")),
        strict=switch("batch.strict", how.get("strict")),
        retry=switch("batch.retry", how.get("retry")),
        command=line.command,
        settings={**leave_out_storage(settings), **({"combined": list(combined)} if combined else {})},
        **more,
    )


def count_or_auto(name: str, value: Any) -> int | None:
    """A whole number from 1, or auto as None."""
    from spade_cli.cli.config.check_values import whole

    return None if value == "auto" else whole(f"{name} (or auto)", value, 1, MOST)


def find_out(value: Any, kind: str, images: Any) -> str:
    """The folder to write: as told, or a new one."""
    from spade_cli.cli.config.check_values import path, text
    from spade_cli.images.download import is_url
    from spade_cli.report.run_folder import free_path

    if value in (None, ""):
        return str(free_path(Path("outputs"), f"{kind}-{Path(str(images)).stem}"))
    written = text("out", value, "FOLDER")
    return written if is_url(written) else str(path("out", written, "FOLDER"))
