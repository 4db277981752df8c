"""spade completion: prints what makes TAB complete commands, settings, values and files in bash, zsh or fish."""

import re
import shlex
from collections.abc import Iterator, Sequence

from spade_cli.cli import own_stdout
from spade_cli.cli.arguments import Command, read_arguments
from spade_cli.errors import UserError

# Each function asks `spade __complete SHELL LINE` about the line up to the cursor. What ends in = . or / gets no blank
# behind it, since it is to be gone on with.
BASH = r"""# spade in bash: put the next line into ~/.bashrc
#   eval "$(spade completion bash)"
_spade() {
    local line=${COMP_LINE:0:COMP_POINT}
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" __complete bash "$line" "$COMP_WORDBREAKS" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=./] ]]; then compopt -o nospace; fi
}
complete -o nosort -F _spade spade
"""
ZSH = r"""#compdef spade
# spade in zsh: put the next line into ~/.zshrc
#   eval "$(spade completion zsh)"
_spade() {
    local word meaning
    local -a ends shown_ends starts shown_starts
    while IFS=$'\t' read -r word meaning; do
        if [[ $word == *[=./] ]]; then
            starts+=("$word") shown_starts+=("$word${meaning:+  -- $meaning}")
        else
            ends+=("$word") shown_ends+=("$word${meaning:+  -- $meaning}")
        fi
    done < <("${words[1]}" __complete zsh "${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" 2>/dev/null)
    compadd -l -d shown_ends -a ends
    compadd -S '' -l -d shown_starts -a starts
    (( $#ends + $#starts ))
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _spade spade
"""
FISH = r"""# spade in fish: put the next line into ~/.config/fish/config.fish
#   spade completion fish | source
complete -c spade -f -a '(spade __complete fish (commandline -cp) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
COMMAND = Command(
    "completion",
    __doc__,
    "spade completion SHELL",
    words=(("SHELL", "bash, zsh or fish; what is printed says where to put it"),),
    examples=('eval "$(spade completion bash)"', "spade completion fish | source"),
)


def main(arguments: list[str]) -> int:
    """Print the shell's function."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    if not given.words or given.words[0] not in SCRIPTS:
        found = repr(given.words[0]) if given.words else "none"
        raise UserError(f"spade completion takes the name of a shell, and found {found}: give bash, zsh or fish")
    own_stdout.say(SCRIPTS[given.words[0]].removesuffix("\n"))
    return 0


def answer(arguments: Sequence[str]) -> int:
    """`SHELL LINE [BREAKS]`: prints an offer a line, for bash as it is inserted, else with its meaning behind a tab."""
    from spade_cli.cli.complete_words import complete

    shell, line, *breaks = arguments
    words, before_quote = split_line(line)
    offers = complete(words[1:] or [""])
    if shell == "bash":
        replies: Iterator[str] = replies_of_bash(
            [offer.word for offer in offers], words[-1], before_quote, "".join(breaks)
        )
    else:
        replies = ("\t".join(offer) if offer.meaning else offer.word for offer in offers)
    print("\n".join(replies))
    return 0


def split_line(line: str) -> tuple[list[str], int | None]:
    """A command line up to the cursor as words without quotes; "" if a new word begins.

    The number says how many characters of the last word stand before a quote that is still open; None: none is.

    >>> split_line("spade run 'image=my c")
    (['spade', 'run', 'image=my c'], 0)
    """
    for quote in ("", "'", '"'):
        try:
            # A mark at the end says where the cursor is: in a word, or behind a blank.
            words = shlex.split(line.removesuffix("\\") + "\0" + quote)
        except ValueError:  # a quote is open
            continue
        words[-1] = words[-1].replace("\0", "")
        return words, None if not quote else len(_before_quote(line, quote))
    return [line], None


def _before_quote(line: str, quote: str) -> str:
    """What the last word has before the quote that is still open."""
    for match in reversed(list(re.finditer(quote, line))):
        try:
            return shlex.split(line[: match.start()] + "\0")[-1].replace("\0", "")
        except ValueError:  # this one closes another
            continue
    return ""


def replies_of_bash(words: Sequence[str], typed: str, before_quote: int | None, breaks: str) -> Iterator[str]:
    """What bash is to put in place of the last word, or of its part behind a = or a quote, where bash breaks words."""
    if before_quote is not None:
        return (word[before_quote:] for word in words)
    start = max(typed.rfind(sign) for sign in "=:" if sign in breaks) + 1 if set("=:") & set(breaks) else 0
    return (re.sub(r"([^\w@%+=:,./~\[\]-])", r"\\\1", word[start:]) for word in words)
