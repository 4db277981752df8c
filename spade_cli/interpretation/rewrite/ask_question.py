"""A question about a network -> the network with one more output, whose value is the question's score."""

import copy
from dataclasses import replace

from torch import fx, nn

from spade_cli.interpretation.rewrite.explainable import Explainable, free_sources
from spade_cli.networks.question import AppendScore, Question

NAME = "question"  # of the last layer, where no layer has this name


def ask_question(network: Explainable, question: Question) -> tuple[Explainable, int]:
    """The network, and the output to explain: a class as it is, any other question as an output that is appended.

    So every method, the user's own as well, explains a contrast as it explains a class.
    """
    if question.is_class:
        return network, question.index
    with free_sources():
        asked = replace(network, model=_append(network.model, question), classes=network.classes + 1, question=question)
    return asked, network.classes


def _append(model: nn.Module, question: Question) -> nn.Module:
    """A copy of the model, its weights shared, with the score behind its outputs."""
    if not isinstance(model, fx.GraphModule):
        return nn.Sequential(model, AppendScore(question))
    name = next(name for name in (NAME + "_" * n for n in range(99)) if not hasattr(model, name))
    appended = copy.deepcopy(model, {id(one): one for one in (*model.parameters(), *model.buffers())})
    (output,) = [node for node in appended.graph.nodes if node.op == "output"]
    (logits,) = output.args
    appended.add_submodule(name, AppendScore(question))
    with appended.graph.inserting_before(output):
        score = appended.graph.call_module(name, (logits,))
    score.meta = {
        key: value for key, value in logits.meta.items() if key != "nn_module_stack"
    }  # no layer of the user's
    output.args = (score,)
    appended.recompile()
    appended.training = False
    return appended
