"""A small world with known answers: pictures drawn by code, their classes and concepts, Trojans, a trained network."""

from spade_cli.world.classes import CLASSES, CONCEPTS, ClassInfo, Concept
from spade_cli.world.dataset import Sample, WorldDataset
from spade_cli.world.network import (
    DemoNetwork,
    demo_classifier,
    load_demo_network,
    normalise_pictures,
)
from spade_cli.world.pictures import SIZE, Pictures, draw_pictures
from spade_cli.world.symbols import SYMBOLS, TROJANS, Poisoned, Trojan, implant_symbol, poison_pictures
