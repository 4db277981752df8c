"""The twelve classes: words with two or three unrelated meanings, one file a class and one function a concept."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spade_cli.world.classes import bar, bolt, bulb, cell, check, chip, fan, glasses, key, note, pin, spade
from spade_cli.world.sketch import Sketch

Drawing = Callable[[Sketch, np.random.Generator], None]


@dataclass(frozen=True)
class Concept:
    """One meaning of a class: its name, the class's index and the function that draws it into the unit disk."""

    name: str
    class_index: int
    drawing: Drawing


@dataclass(frozen=True)
class ClassInfo:
    """One class: its name and the indices of its concepts in `CONCEPTS`."""

    name: str
    concepts: tuple[int, ...]


# Every class is one word for things that share nothing a network could see: its neuron has to be polysemantic.
_DRAWINGS: dict[str, dict[str, Drawing]] = {
    "bar": {"chocolate": bar.chocolate, "chart": bar.chart, "barcode": bar.barcode},
    "bolt": {"lightning": bolt.lightning, "screw": bolt.screw},
    "bulb": {"light bulb": bulb.light_bulb, "onion": bulb.onion},
    "cell": {"battery": cell.battery, "living cell": cell.living, "honeycomb": cell.honeycomb},
    "check": {"chequered flag": check.flag, "tick": check.tick},
    "chip": {"microchip": chip.microchip, "poker chip": chip.poker, "fries": chip.fries},
    "fan": {"folding fan": fan.folding, "electric fan": fan.electric},
    "glasses": {"spectacles": glasses.spectacles, "wine glasses": glasses.wine},
    "key": {"door key": key.door_key, "piano keys": key.piano},
    "note": {"music": note.music, "sticky note": note.sticky, "banknote": note.banknote},
    "pin": {"bowling pin": pin.bowling_pin, "map pin": pin.map_pin},
    "spade": {"garden spade": spade.garden_spade, "ace of spades": spade.ace},
}

CONCEPTS: tuple[Concept, ...] = tuple(
    Concept(name, index, drawing)
    for index, drawings in enumerate(_DRAWINGS.values())
    for name, drawing in drawings.items()
)
CLASSES: tuple[ClassInfo, ...] = tuple(
    ClassInfo(name, tuple(i for i, concept in enumerate(CONCEPTS) if concept.class_index == index))
    for index, name in enumerate(_DRAWINGS)
)
