"""spade open: show a run's report in the browser, the latest one's if none is named."""

import sys
from pathlib import Path

from spade_cli.cli.plain import parsed, parser
from spade_cli.paths import expanded
from spade_cli.runs import find_page


def main(arguments: list[str]) -> int:
    """Find the page, print its path and open it."""
    takes = parser("open", __doc__)
    takes.add_argument(
        "run", metavar="RUN", nargs="?", help="folder of a run or of many, or a part of a run's name; default: latest"
    )
    takes.add_argument("--output", metavar="FOLDER", default="outputs", type=Path, help="where the runs are (outputs)")
    takes.add_argument("--print", action="store_true", dest="only_print", help="print the page's path and open nothing")
    asked = parsed(takes, arguments)
    if asked is None:
        return 0
    import webbrowser  # it looks for browsers at import

    page = find_page(None if asked.run is None else str(expanded(asked.run)), expanded(asked.output))
    print(page, flush=True)
    if not asked.only_print and not webbrowser.open(page.resolve().as_uri()):
        print("spade: no browser was found here; open the file yourself", file=sys.stderr)
    return 0
