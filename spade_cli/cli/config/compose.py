"""The door of every command that has settings: help, flags, and the configuration that Hydra composes of its words."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.help import manual
from spade_cli.cli.config.read_yaml import CONFIGS
from spade_cli.cli.config.typed_words import HELP, config_dirs, quote, quote_value, split_flags
from spade_cli.errors import UserError

Task = Callable[[dict[str, Any], "CommandLine"], None]


@dataclass
class CommandLine:
    """What was typed and chosen, beside the configuration itself."""

    command: str  # as typed
    choices: dict[str, str]  # group -> choice: {"pruner": "obs"}
    yaml: str  # the composed configuration
    overrides: tuple[str, ...] = ()  # as Hydra reads them: "pruner=obs"
    views: tuple[str, ...] = ()  # how to say it: --quiet, --plain, --json
    folders: tuple[Path, ...] = ()  # of --config-dir

    @property
    def words(self) -> tuple[str, ...]:
        """What gives the command again."""
        return (*(f"--config-dir={folder}" for folder in self.folders), *self.overrides)


def run_command(name: str, arguments: list[str], task: Task, usage: str, examples: tuple[str, ...]) -> int:
    """Compose the settings and do the task. Raises UserError."""
    flags, words = split_flags(arguments)
    views = tuple(flag for flag in flags if flag in terminal.VIEWS)
    folders, overrides = config_dirs(flags), [quote(word) for word in words]
    if {*HELP} & set(flags):
        own_stdout.say(manual(name, usage, examples, folders))
        return 0
    from omegaconf import OmegaConf

    from spade_cli.cli.config.check_keys import check_keys
    from spade_cli.cli.config.check_words import check_flags, check_words

    check_flags(name, arguments, flags)
    check_words(name, overrides, folders)
    config, choices = compose_config(name, overrides, folders)
    if "--cfg=job" in flags:
        own_stdout.say(OmegaConf.to_yaml(config).removesuffix("\n"))
        return 0
    import_from_here()
    settings = read_settings(config, name)
    check_keys(name, settings, OmegaConf.to_container(config), choices)  # type: ignore[arg-type]
    typed = shlex.join(["spade", name, *(argument for argument in arguments if argument not in terminal.VIEWS)])
    yaml = OmegaConf.to_yaml(config, resolve=True)
    task(settings, CommandLine(typed, choices, yaml, tuple(overrides), views, tuple(folders)))
    return 0


def compose_config(command: str, overrides: Sequence[str], folders: Sequence[Path]) -> tuple[Any, dict[str, str]]:
    """A command's configuration, and the choice in each group. Raises UserError."""
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from spade_cli.cli.config.check_keys import rename_output
    from spade_cli.cli.config.check_words import check_choices
    from spade_cli.cli.config.translate_errors import COMPOSING_ERRORS, translate

    if lost := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"--config-dir: {lost[0]} is not a folder; give one with YAML files such as pruner/mine.yaml")
    paths = ",".join(quote_value(str(folder.absolute())) for folder in folders)
    search = [f"hydra.searchpath=[{paths}]"] if folders else []
    try:
        check_choices(command, overrides, folders)
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose(command, [*search, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # what ${hydra:...} refers to
        choices = dict(config.hydra.runtime.choices)
        with open_dict(config):
            del config["hydra"]
        rename_output(config, overrides)
    except COMPOSING_ERRORS as error:
        raise translate(error, command, overrides, folders) from error
    return config, choices


def read_settings(config: Any, command: str) -> dict[str, Any]:
    """A configuration as plain values, its references resolved. Raises UserError."""
    from omegaconf import OmegaConf

    from spade_cli.cli.config.translate_errors import COMPOSING_ERRORS, translate

    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except COMPOSING_ERRORS as error:
        raise translate(error, command, [], []) from error


def import_from_here() -> None:
    """The user's factories and `_target_`s may live in the caller's folder; last, so that they shadow nothing."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
