"""The door that every command behind Hydra goes through: help, flags, Hydra itself, and exit codes."""

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from spade_cli.cli import own_stdout
from spade_cli.cli.config.help import manual
from spade_cli.cli.config.options import CONFIGS
from spade_cli.cli.config.quoting import MULTIRUN, arrange, config_dirs
from spade_cli.cli.terminal import VIEWS
from spade_cli.errors import SpadeError, UserError

HYDRA_PRINTS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")
Task = Callable[[dict[str, Any], "Asked"], None]


class Asked:
    """What was typed and chosen, beside the configuration itself."""

    def __init__(
        self,
        command: str,
        choices: dict[str, str],
        yaml: str,
        overrides: tuple[str, ...] = (),
        views: tuple[str, ...] = (),
    ) -> None:
        self.views = views  # how to say it: --quiet, --plain, --json
        self.command = command  # as typed
        self.choices = choices  # group -> choice: {"pruner": "obs"}
        self.yaml = yaml  # the composed configuration
        self.overrides = overrides  # as Hydra read them: "pruner=obs"


def run_command(name: str, arguments: list[str], task: Task, usage: str, examples: tuple[str, ...]) -> int:
    """Compose with Hydra and do the task, once or (-m) once for each combination; returns the worst exit code."""
    flags, overrides = arrange(arguments)
    views = tuple(flag for flag in flags if flag in VIEWS)
    flags = [flag for flag in flags if flag not in VIEWS]
    folders = config_dirs(flags)
    if {"-h", "--help"} & set(flags):
        own_stdout.say(manual(name, usage, examples, folders))
        return 0
    from spade_cli.cli.config.keys import check_choices
    from spade_cli.cli.config.translate_errors import COMPOSING_ERRORS, check_words, translate

    try:
        _check_flags([*flags, *overrides], name, arguments)
        check_words(name, overrides, folders)
        check_choices(name, overrides, folders)
        described = _described(name, [argument for argument in arguments if argument not in VIEWS])
        return _under_hydra(name, [*flags, *overrides], described, task, views)
    except COMPOSING_ERRORS as error:
        raise translate(error, name, overrides, folders) from error


def _described(name: str, arguments: list[str]) -> str:
    return shlex.join(["spade", name, *arguments])


def _check_flags(words: list[str], name: str, typed: list[str]) -> None:
    """Let Hydra's own parser look first: its complaint would be a screen of usage."""
    from hydra._internal.utils import get_args_parser

    from spade_cli.cli.config.translate_errors import bad_flag

    def complain(message: str) -> NoReturn:
        raise bad_flag(message, typed, name)

    parser = get_args_parser()
    parser.error = complain  # type: ignore[method-assign]
    found = parser.parse_args(words)
    if found.config_name or found.config_path:  # another root lacks the groups, and Hydra leaves files of its own then
        raise UserError(
            f"{name}: --config-name and --config-path are not options of spade; put your settings into "
            "FOLDER/experiment/mine.yaml, which begins with # @package _global_, and give --config-dir FOLDER "
            "+experiment=mine"
        )


def _under_hydra(name: str, arguments: list[str], command: str, task: Task, views: tuple[str, ...]) -> int:
    import hydra

    sweep = any(flag in arguments for flag in MULTIRUN)
    with tempfile.TemporaryDirectory(prefix="spade-") as folder:
        # A launcher may do the tasks in other processes, and Hydra drops what they return: it goes through files.
        codes, answers, here = Path(folder, "codes"), Path(folder, "answers"), os.getpid()

        def job(config: Any) -> None:
            with nullcontext() if os.getpid() == here else own_stdout.kept_in(answers):
                code = _do(name, config, command, task, sweep, views)
            with codes.open("a") as file:
                file.write(f"{code}\n")

        # Hydra prints only where it does no task: --cfg, --info, --hydra-help.
        prints = any(flag.partition("=")[0] in HYDRA_PRINTS for flag in arguments)
        with _hydra_manners([f"spade {name}", *arguments]), own_stdout.lent() if prints else nullcontext():
            hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")(job)()
        if answers.exists():
            own_stdout.say(answers.read_text(encoding="utf-8").removesuffix("\n"))
        return max(map(int, codes.read_text().split())) if codes.exists() else 0


@contextmanager
def _hydra_manners(argv: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and raises its errors instead of printing them only where its debugging variable is set."""
    old_argv, old_errors = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    except SystemExit as end:  # Hydra's own --hydra-help and the like
        if end.code not in (0, None):
            raise
    finally:
        sys.argv = old_argv
        if old_errors is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_errors


def _do(name: str, config: Any, command: str, task: Task, sweep: bool, views: tuple[str, ...]) -> int:
    """One task; its failure is told here and becomes a code, so that the other tasks of a multirun go on."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from spade_cli.cli.config.keys import check_keys, rename_output
    from spade_cli.cli.config.translate_errors import HYDRA_ERRORS, translate

    import_from_here()
    runtime = HydraConfig.get()
    which = f" [{' '.join(runtime.overrides.task)}]" if sweep else ""
    try:
        choices, overrides = dict(runtime.runtime.choices), tuple(runtime.overrides.task)
        rename_output(config, overrides)
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        raw: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
        check_keys(name, plain, raw, choices)
        asked = Asked(command, choices, OmegaConf.to_yaml(config, resolve=True), overrides, views)
        task(plain, asked)
        return 0
    except BrokenPipeError:
        own_stdout.abandon()
        return 141
    except HYDRA_ERRORS as error:
        return _tell(translate(error, name, [], []), which)
    except SpadeError as error:
        return _tell(error, which)
    except Exception:  # a fault of the program's or of the user's own code keeps its traceback
        print(f"spade: failed{which}", file=sys.stderr)
        traceback.print_exc()
        return 1


def _tell(error: SpadeError, which: str) -> int:
    print(f"spade: {' '.join(str(error).split())}{which}", file=sys.stderr)
    return error.exit_code


def import_from_here() -> None:
    """The user's factories and `_target_`s may live in the caller's folder; last, so that they shadow nothing."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
