"""Sparse FC, the baseline of Wong, Santurkar and Madry 2021: only the last linear layer is sparse, for all pictures.

n: pictures; f: features, inputs of the last layer; k: classes.
"""

import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spade_cli.errors import SpadeError, UserError
from spade_cli.models import Classifier
from spade_cli.networks.copies import copy_for_eval
from spade_cli.networks.scores import Output
from spade_cli.pruning import find_layers

# As in the paper (appendix A.2 and section 3.1), the elastic net is nearly a lasso, and the sparsest fit is taken whose
# accuracy is at most 5 % lower.
L1_RATIO = 0.99
ALLOWED_LOSS = 0.05  # of the agreement with the dense network that the densest fit reaches, on held-out pictures
# Penalties on the mean loss, for features of deviation 1: the first leaves almost no weight, the last hardly binds.
PENALTIES = tuple(np.geomspace(0.1, 5e-4, 10).tolist())
HELD_OUT = 0.2  # of the pictures, to choose the penalty on
ITERATIONS = 300  # of SAGA; the important coefficients settle long before
UNSEEN = -1e4  # bias of a class that is no picture's answer: it never becomes the answer


def check_last_layer(classifier: Classifier) -> str:
    """The name of the linear layer whose output is the network's. Raises UserError where there is none."""
    if classifier.output is not Output.SOFTMAX:
        raise UserError(
            f"conditions: sparse_fc refits one class out of many, and model={classifier.name} gives labels that stand "
            "alone (sigmoid); take sparse_fc out"
        )
    layers = find_layers(classifier.model)
    last = layers[-1] if layers else None
    if last is not None and last.kind == "linear":
        module = classifier.model.get_submodule(last.name)
        seen: list[Tensor] = []
        handle = module.register_forward_hook(lambda module, args, output: seen.append(output))
        try:
            with torch.no_grad():
                answer = classifier.model(classifier.grey())
        finally:
            handle.remove()
        if seen and seen[-1].shape == answer.shape and seen[-1].equal(answer):
            return last.name
    found = f"its last layer is {last.name}, {last.kind}" if last else "it has no layer"
    raise UserError(
        f"conditions: sparse_fc refits a linear layer that gives the answer, and model={classifier.name} "
        f"has none ({found}); take sparse_fc out"
    )


def sparse_fc(
    classifier: Classifier, batches: Iterable[Tensor], seed: int, on_fit: Callable[[], None] = lambda: None
) -> nn.Module:
    """A copy of the network with its last layer refitted by an elastic-net logistic regression on its own answers.

    `batches` yields normalised pictures (N, 3, H, W). The fit is to the dense network's answers: the network is what is
    explained, and a folder may have no labels. It takes the strongest penalty that agrees with the dense network nearly
    as often as the weakest. `on_fit` is called after the fit of each penalty. Raises SpadeError where all answers are
    the same.
    """
    name = check_last_layer(classifier)
    features, answers = _collect_features(classifier.model, name, batches)  # (n, f), (n,)
    if len(np.unique(answers)) < 2:
        raise SpadeError(f"sparse_fc: the network gives one answer to all {len(answers)} pictures; give more of them")
    network = copy_for_eval(classifier.model)
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    weight, bias = _fit_layer(features, answers, classifier.classes, seed, on_fit)
    layer.weight = nn.Parameter(torch.from_numpy(weight).to(layer.weight), requires_grad=False)
    layer.bias = nn.Parameter(torch.from_numpy(bias).to(layer.weight), requires_grad=False)
    return network


@torch.no_grad()
def _collect_features(
    model: nn.Module, name: str, batches: Iterable[Tensor]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Inputs of a layer, (n, f), and the network's answers, (n,)."""
    rows: list[Tensor] = []
    answers: list[Tensor] = []
    hook = lambda module, args: rows.append(args[0].double().cpu())  # noqa: E731
    handle = model.get_submodule(name).register_forward_pre_hook(hook)
    try:
        for batch in batches:
            answers.append(model(batch).argmax(1).cpu())
    finally:
        handle.remove()
    return torch.cat(rows).numpy(), torch.cat(answers).numpy()


def _fit_layer(
    features: NDArray[np.float64], answers: NDArray[np.int64], classes: int, seed: int, on_fit: Callable[[], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (k, f) and bias (k,) for raw features: the sparsest of the path within the allowed loss."""
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    standard = (features - mean) / deviation  # one penalty for all features, as in the paper
    held = np.random.default_rng(seed).permutation(len(answers)) < max(1, round(HELD_OUT * len(answers)))
    if len(np.unique(answers[~held])) < 2:
        held = np.zeros(len(answers), bool)  # with some held out, too few pictures would leave one answer
    path = _fit_path(standard[~held], answers[~held], seed, on_fit)
    judged = held if held.any() else ~held
    agreement = [
        float((classes_[(standard[judged] @ w.T + b).argmax(1)] == answers[judged]).mean()) for classes_, w, b in path
    ]
    chosen = next(i for i, share in enumerate(agreement) if share >= agreement[-1] * (1 - ALLOWED_LOSS))
    seen, coefficients, intercept = path[chosen]
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, UNSEEN)
    weight[seen] = coefficients / deviation
    bias[seen] = intercept - weight[seen] @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def _fit_path(
    features: NDArray[np.float64], answers: NDArray[np.int64], seed: int, on_fit: Callable[[], None]
) -> list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """(classes seen, coefficients, intercept) for each penalty; each fit starts from the one before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        l1_ratio=L1_RATIO, solver="saga", warm_start=True, max_iter=ITERATIONS, tol=1e-3, random_state=seed
    )
    path = []
    for penalty in PENALTIES:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # fits are judged by their agreement, not by convergence
            model.set_params(C=1 / (penalty * len(answers))).fit(features, answers)
        coefficients, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients, intercept = (
                np.concatenate([-coefficients, coefficients]) / 2,
                np.append(-intercept, intercept) / 2,
            )
        path.append((model.classes_, coefficients.copy(), intercept.copy()))
        on_fit()
    return path
