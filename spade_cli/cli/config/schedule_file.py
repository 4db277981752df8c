"""schedule=PATH.yaml -> the shares in that file: of blocks, layers or globs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spade_cli.cli.config.check_values import path, shares
from spade_cli.errors import UserError
from spade_cli.pruning import schedule

TABLE = f"{schedule.table.__module__}.{schedule.table.__name__}"  # as configs/schedule/table.yaml names it
FORM = "write shares: and under it a line NAME: SHARE for each block or layer"


def with_shares(settings: dict[str, Any]) -> dict[str, Any]:
    """A schedule's settings; for a table, with the shares from its file."""
    if settings.get("_target_") != TABLE:
        return settings
    file = _file(settings)
    rest = {key: value for key, value in settings.items() if key != "file"}
    return {**rest, "shares": read_shares(file), "source": f"schedule={file}"}


def schedule_name(choice: str, settings: Mapping[str, Any]) -> str:
    """What a run calls its schedule: the choice, or the name of a table's file."""
    return _file(settings).stem if settings.get("_target_") == TABLE else choice


def _file(settings: Mapping[str, Any]) -> Path:
    return path("schedule.file", settings.get("file"), "PATH.yaml")


def read_shares(file: Path) -> dict[str, float]:
    """`shares: {NAME: SHARE}` of a YAML file. Raises UserError for any other file."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    asked = f"schedule={file}"
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except FileNotFoundError:
        raise UserError(f"{asked} is not there; give a YAML file, such as the one that spade tune writes") from None
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{asked} cannot be read as YAML ({' '.join(str(error).split())}); {FORM}") from None
    if not isinstance(content, dict) or set(content) != {"shares"}:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else "no mapping"
        raise UserError(f"{asked} has {found or 'nothing'} in it, not shares alone; {FORM}")
    return shares(f"{asked}: shares", content["shares"])
