"""Does the trace still say what the dense network says? About the image, and about held-out augmentations of it."""

from torch import Tensor

from spade_cli.networks.scores import Output
from spade_cli.pruning.fidelity import agreement


def fidelity(
    dense: Tensor,
    trace: Tensor,
    dense_held: Tensor,
    trace_held: Tensor,
    target: int,
    output: Output = Output.SOFTMAX,
) -> dict[str, float]:
    """From the logits on the image (classes,) and on held-out samples (samples, classes) of both networks.

    same_prediction: 1 or 0. agreement, kl: as in summary.json, over the samples; they are to be augmentations that the
    trace was not made from. logit_change: trace less dense, of the target. probability: the target's, on the trace.
    """
    return {
        "same_prediction": float(output.same_answer(dense, trace)),
        **agreement(dense_held, trace_held, output),
        "logit_change": float(trace[target].double() - dense[target].double()),
        "probability": float(output.probabilities(trace)[target]),
    }
