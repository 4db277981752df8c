"""spade world: draw pictures of the bundled world, with masks and labels."""

from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.front import Asked, run_command

USAGE = "spade world OUT [OPTION=VALUE ...]"
EXAMPLES = ("spade world pictures count=1000", "spade world pictures trojan_share=1 seed=7")


def main(arguments: list[str]) -> int:
    """Compose the configuration and write the pictures; the first bare word is the folder."""
    bare = next((word for word in arguments if "=" not in word and not word.startswith("-")), None)
    rest = [word for word in arguments if word is not bare]
    return run_command("world", [*([f"out={bare}"] if bare else []), *rest], _world, USAGE, EXAMPLES)


def _world(config: dict[str, Any], asked: Asked) -> None:
    from spade_cli.cli.values import number, path, whole
    from spade_cli.progress import Stages
    from spade_cli.report.folder import new_folder
    from spade_cli.world.files import write_world

    out = path("out", config.get("out"), "FOLDER")
    count = whole("count", config.get("count"), 1)
    share = number("trojan_share", config.get("trojan_share"), 0, 1)
    seed = whole("seed", config.get("seed"), 0)
    stages = Stages(terminal.console(asked.views))
    with new_folder(out, f"out={out}") as folder, stages.stage("draw", total=count) as advance:
        write_world(folder, count, share, seed, advance)
    print(out)
