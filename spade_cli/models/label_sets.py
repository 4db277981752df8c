"""Class names of well-known data sets, in the order in which networks are usually trained on them."""

from dataclasses import replace

from torchvision.datasets import MNIST, FashionMNIST
from torchvision.models import ResNet18_Weights

from spade_cli.models.classifier import Classifier

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE_LABELS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
CIFAR100 = tuple(name.replace("_", " ") for name in _FINE_LABELS.split())
IMAGENET = tuple(ResNet18_Weights.DEFAULT.meta["categories"])
LABEL_SETS: dict[str, tuple[str, ...]] = {
    "imagenet": IMAGENET,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "mnist": tuple(MNIST.classes),
    "fashionmnist": tuple(FashionMNIST.classes),
}
ASSUMED = (
    "the names of its 1,000 classes are assumed to be ImageNet's, in their usual order; model.labels=PATH gives others"
)


def assume_labels(classifier: Classifier) -> Classifier:
    """ImageNet's names for a network of 1,000 classes that has none, with a note. Fewer classes can be anything."""
    if classifier.labels is not None or classifier.classes != len(IMAGENET):
        return classifier
    return replace(classifier, labels=IMAGENET, notes=(*classifier.notes, ASSUMED))
