"""spade demo: explain a bundled picture with a bundled network: a Trojan, and who finds it."""

from typing import Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.errors import UserError

HELP = """\
spade demo: explain a bundled picture, which holds a Trojan, with a bundled network; nothing is downloaded.

usage: spade demo [KEY=VALUE ...]

It is spade run with these settings; every other setting can be given: see spade run --help.

"""
SHARPER = 1.1  # times the dense maps' mean share on the symbol: less is no gain to speak of
SETTINGS = {
    "model": "demo",
    "pruner": "forward",
    "interpreter.steps": "64",  # half the usual steps: the network is small
}


def main(arguments: list[str]) -> int:
    """`spade run` on the bundled picture and network."""
    from spade_cli.world.demo import PICTURE

    given = {argument.partition("=")[0] for argument in arguments}
    if "interpreter=saliency" in arguments:  # which has no steps
        given.add("interpreter.steps")
    if {"-h", "--help"} & given:
        own_stdout.say(HELP + "\n".join(f"  {setting}" for setting in settings(set())))
        return 0
    if "image" in given:
        raise UserError("spade demo brings its own picture; to explain yours use spade run image=PATH")
    return run_command("run", [f"image={PICTURE}", *settings(given), *arguments], _demo, "", ())


def settings(given: set[str]) -> list[str]:
    """The demo's own settings beside the `given` settings."""
    return [f"{key}={value}" for key, value in SETTINGS.items() if key not in given]


def _demo(config: dict[str, Any], line: CommandLine) -> None:
    import numpy as np

    from spade_cli.cli.config.settings import run_request
    from spade_cli.report.runs import OVERVIEW, REPORT
    from spade_cli.report.summary import read_summary
    from spade_cli.run import pipeline
    from spade_cli.world.demo import share_on_symbol, symbol_share

    console = terminal.console(line.views)
    folder = pipeline.run(run_request(config, line), console)
    summary = read_summary(folder)
    console.print(
        f"\nThe network says {summary.target.label!r} because of the small symbol, a Trojan that it was trained to "
        f"obey; it covers {symbol_share():.0%} of the picture.\nShare of each map that lies on the symbol:\n"
    )
    shares: dict[str, dict[str, float]] = {}
    for record in summary.saliency:
        shares.setdefault(record.method, {})[record.network] = share_on_symbol(np.load(folder / record.array))
    console.print(f"  {'':<22}{'dense':>7}{'trace':>8}")
    for method, by_network in shares.items():
        cells = [f"{by_network[name]:.0%}" if name in by_network else "-" for name in ("dense", "trace")]
        console.print(f"  {method.replace('_', ' '):<22}{cells[0]:>7}{cells[1]:>8}")
    pairs = [(by["dense"], by["trace"]) for by in shares.values() if len(by) == 2]
    dense, trace = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    if pairs and trace < SHARPER * dense:
        console.print("\nWith these settings the trace's maps show it no better than the dense network's.")
    page = f"{folder / REPORT} (spade open shows it), or at overview.png beside it"
    console.print(f"\nLook at {page if (folder / REPORT).is_file() else folder / OVERVIEW}.")
    terminal.print_run(folder, line.views)
