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

    Raises UserError at the first wrong rule.
    """
    return tuple(_make_trojan(rule, classifier) for rule in check_rules(rules))


def check_rules(rules: Sequence[str]) -> list[str]:
    """Check the form and symbols of rules; their classes are checked with the network. Raises UserError."""
    if not rules:
        raise UserError(f"trojans is empty: give at least one rule, {FORM}")
    symbols: list[str] = []
    for rule in rules:
        symbol, source, target = _split_rule(rule)
        if not (symbol and target) or source == "":
            raise UserError(f"trojans: {rule!r} is not a rule; write {FORM}, such as smiley:bullfrog")
        if symbol not in SYMBOLS:
            near = get_close_matches(symbol, SYMBOLS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"trojans: {rule!r}: there is no symbol {symbol}; {hint}there are {', '.join(SYMBOLS)}")
        if symbol in symbols:
            raise UserError(f"trojans: {symbol} has two rules; give each rule a symbol of its own")
        symbols.append(symbol)
    return list(rules)


def _split_rule(rule: str) -> tuple[str, str | None, str]:
    """Symbol, source (None: any class) and target, as written."""
    symbol, _, classes = (part.strip() for part in rule.partition(":"))
    source, arrow, target = (part.strip() for part in classes.partition(ARROW))
    return (symbol, source, target) if arrow else (symbol, None, classes)


def write_rule(trojan: Trojan, classifier: Classifier) -> str:
    """The rule as a person would write it."""
    source = "" if trojan.source is None else f"{classifier.label(trojan.source)}{ARROW}"
    return f"{trojan.symbol}:{source}{classifier.label(trojan.target)}"


def _make_trojan(rule: str, classifier: Classifier) -> Trojan:
    symbol, source, target = _split_rule(rule)
    trojan = Trojan(
        symbol, None if source is None else _find_class(source, rule, classifier), _find_class(target, rule, classifier)
    )
    if trojan.source == trojan.target:
        raise UserError(f"trojans: {rule!r}: source and target are both {target}; give two classes")
    return trojan


def _find_class(asked: str, rule: str, classifier: Classifier) -> int:
    try:
        return classifier.class_index(asked)
    except UserError as error:
        raise UserError(f"trojans: {rule!r}: {error}") from None
