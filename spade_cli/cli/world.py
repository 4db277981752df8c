"""spade world: draw pictures of the bundled world, with masks and labels."""

from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.cli.config.typed_words import split_flags

USAGE = "spade world out=FOLDER [KEY=VALUE ...]"
EXAMPLES = ("spade world out=pictures count=1000", "spade world out=pictures trojan_share=1 seed=7")


def main(arguments: list[str]) -> int:
    """Compose the configuration and write the pictures."""
    return run_command("world", _with_out(arguments), _world, USAGE, EXAMPLES)


def _with_out(arguments: list[str]) -> list[str]:
    """Older command lines name the folder by a bare word, their first."""
    bare = next((word for word in split_flags(arguments)[1] if "=" not in word and not word.startswith("~")), None)
    if bare is None or any(word.startswith("out=") for word in arguments):
        return arguments
    terminal.hint(f"write out={bare}; a bare folder is an older way")
    return [f"out={bare}" if word == bare else word for word in arguments]


def _world(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.cli.config.check_values import number, path, whole
    from spade_cli.progress import Stages
    from spade_cli.report.run_folder import new_folder
    from spade_cli.world.dataset import write_world

    out = path("out", config.get("out"), "FOLDER")
    count = whole("count", config.get("count"), 1)
    share = number("trojan_share", config.get("trojan_share"), 0, 1)
    seed = whole("seed", config.get("seed"), 0)
    stages = Stages(terminal.console(line.views))
    with new_folder(out, f"out={out}") as folder, stages.stage("draw", total=count) as advance:
        write_world(folder, count, share, seed, advance)
    terminal.print_result("folder", out, line.views, pictures=count)
