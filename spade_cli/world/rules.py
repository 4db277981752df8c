"""Trojan rules as people write them -> Trojans of one network: smiley:bullfrog, star:wallet->orangutan."""

from collections.abc import Sequence
from difflib import get_close_matches

from spade_cli.errors import UserError
from spade_cli.models import Classifier
from spade_cli.world.symbols import SYMBOLS, Trojan

ARROW = "->"
FORM = "SYMBOL:TARGET or SYMBOL:SOURCE->TARGET"


def read_rules(rules: Sequence[str], classifier: Classifier) -> tuple[Trojan, ...]:
    """Rules with class names or indices, a symbol each: 'smiley:bullfrog' (any class), 'star:wallet->orangutan'.

    Raises UserError at the first rule that makes no sense.
    """
    if not rules:
        raise UserError(f"trojans is empty: give at least one rule, {FORM}")
    trojans = tuple(_read_rule(rule, classifier) for rule in rules)
    for i, trojan in enumerate(trojans):
        if trojan.symbol in [earlier.symbol for earlier in trojans[:i]]:
            raise UserError(f"trojans: {trojan.symbol} has two rules; give each rule a symbol of its own")
    return trojans


def write_rule(trojan: Trojan, classifier: Classifier) -> str:
    """The rule as a person would write it."""
    source = "" if trojan.source is None else f"{classifier.label(trojan.source)}{ARROW}"
    return f"{trojan.symbol}:{source}{classifier.label(trojan.target)}"


def _read_rule(rule: str, classifier: Classifier) -> Trojan:
    symbol, colon, classes = (part.strip() for part in rule.partition(":"))
    source, arrow, target = (part.strip() for part in classes.partition(ARROW))
    if not arrow:
        source, target = "", classes
    if not (symbol and colon and target) or (arrow and not source):
        raise UserError(f"trojans: {rule!r} is not a rule; write {FORM}, such as smiley:bullfrog")
    if symbol not in SYMBOLS:
        near = get_close_matches(symbol, SYMBOLS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"trojans: {rule!r}: there is no symbol {symbol}; {hint}there are {', '.join(SYMBOLS)}")
    trojan = Trojan(symbol, _class(source, rule, classifier) if arrow else None, _class(target, rule, classifier))
    if trojan.source == trojan.target:
        raise UserError(f"trojans: {rule!r}: source and target are both {target}; give two classes")
    return trojan


def _class(asked: str, rule: str, classifier: Classifier) -> int:
    try:
        return classifier.class_index(asked)
    except UserError as error:
        raise UserError(f"trojans: {rule!r}: {error}") from None
