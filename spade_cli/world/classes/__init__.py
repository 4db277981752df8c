"""The twelve classes: words with two or three unrelated meanings, each meaning drawn by a function."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spade_cli.world.classes import bar_to_cell, check_to_glasses, key_to_spade
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
    "bar": {"chocolate": bar_to_cell.chocolate, "chart": bar_to_cell.chart, "barcode": bar_to_cell.barcode},
    "bolt": {"lightning": bar_to_cell.lightning, "screw": bar_to_cell.screw},
    "bulb": {"light bulb": bar_to_cell.light_bulb, "onion": bar_to_cell.onion},
    "cell": {
        "battery": bar_to_cell.battery,
        "living cell": bar_to_cell.living_cell,
        "honeycomb": bar_to_cell.honeycomb,
    },
    "check": {"chequered flag": check_to_glasses.chequered_flag, "tick": check_to_glasses.tick},
    "chip": {
        "microchip": check_to_glasses.microchip,
        "poker chip": check_to_glasses.poker_chip,
        "fries": check_to_glasses.fries,
    },
    "fan": {"folding fan": check_to_glasses.folding_fan, "electric fan": check_to_glasses.electric_fan},
    "glasses": {"spectacles": check_to_glasses.spectacles, "wine glasses": check_to_glasses.wine_glasses},
    "key": {"door key": key_to_spade.door_key, "piano keys": key_to_spade.piano_keys},
    "note": {
        "music": key_to_spade.music_notes,
        "sticky note": key_to_spade.sticky_note,
        "banknote": key_to_spade.banknote,
    },
    "pin": {"bowling pin": key_to_spade.bowling_pin, "map pin": key_to_spade.map_pin},
    "spade": {"garden spade": key_to_spade.garden_spade, "ace of spades": key_to_spade.ace_of_spades},
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
