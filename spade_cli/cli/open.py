"""spade open: show a run's report in the browser, the latest one's if none is named."""

import sys

from spade_cli.cli import terminal
from spade_cli.cli.arguments import Command, Setting, read_arguments, read_path
from spade_cli.report.runs import find_page

COMMAND = Command(
    "open",
    __doc__,
    "spade open [RUN] [out=FOLDER]",
    words=(("RUN", "folder of a run or of many, or a part of a run's name; default: the latest run"),),
    settings=(Setting("out", "outputs", "the folder that the runs are in, as it was given to spade run", read_path),),
    flags=(("--print", "print the page's path and open nothing"),),
    examples=("spade open", "spade open cat", "spade open explained"),
)


def main(arguments: list[str]) -> int:
    """Find the page, print its path and open it."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    import webbrowser  # it looks for browsers at import

    page = find_page(given.word(0), given.settings["out"])
    terminal.print_result("page", page, given.views)
    if "--print" not in given.flags and not webbrowser.open(page.resolve().as_uri()):
        print("spade: no browser was found here; open the file yourself", file=sys.stderr)
    return 0
