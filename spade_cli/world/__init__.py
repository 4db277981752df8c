"""A small world with known answers: pictures drawn by code, their classes and concepts, Trojans, a trained network."""

from spade_cli.world.classes import CLASSES, CONCEPTS, ClassInfo, Concept
from spade_cli.world.dataset import Sample, WorldDataset
from spade_cli.world.measure_network import Figures, TrojanFigures, measure_network
from spade_cli.world.network import DemoNetwork, demo_classifier, demo_network, load_demo_network, normalise_pictures
from spade_cli.world.pictures import SIZE, Pictures, draw_pictures
from spade_cli.world.sheet import contact_sheet, trojan_sheet, world_sheet
from spade_cli.world.symbols import SYMBOLS, TROJANS, Poisoned, Trojan, implant_symbol, poison_pictures

__all__ = [
    "CLASSES",
    "CONCEPTS",
    "SIZE",
    "SYMBOLS",
    "TROJANS",
    "ClassInfo",
    "Concept",
    "DemoNetwork",
    "Figures",
    "Pictures",
    "Poisoned",
    "Sample",
    "Trojan",
    "TrojanFigures",
    "WorldDataset",
    "contact_sheet",
    "demo_classifier",
    "demo_network",
    "draw_pictures",
    "implant_symbol",
    "load_demo_network",
    "measure_network",
    "normalise_pictures",
    "poison_pictures",
    "trojan_sheet",
    "world_sheet",
]
