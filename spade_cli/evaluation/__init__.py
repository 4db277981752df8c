"""Does the trace explain better than the dense network, by how much, and is that luck? Measures, and the experiment.

The measures are functions of tensors; `evaluate.py` is the experiment in the order it happens.
"""

from spade_cli.evaluation.measures.aggregation import AGGREGATIONS, aggregate
from spade_cli.evaluation.measures.fidelity import fidelity
from spade_cli.evaluation.measures.insertion import area, curve
from spade_cli.evaluation.measures.intervals import compare, estimate
from spade_cli.evaluation.measures.localisation import mass_inside, pointing_game, rank_accuracy, roc_auc
from spade_cli.evaluation.measures.sanity import kept_overlap, randomise_layers, rank_correlation
