"""Captum belongs to the whole process: its tables are the same before spade is imported, and after each method."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil
import torch
import captum.attr
from torch import nn

def tables():
    '''Every dictionary, list and set of captum's modules, with the identity of what is in it.'''
    found = {}
    for module in [importlib.import_module(info.name) for info in pkgutil.walk_packages(
        captum.attr.__path__, "captum.attr.") if "visualization" not in info.name]:
        for name, value in list(vars(module).items()):
            if name.startswith("__"):
                continue
            if isinstance(value, dict):
                found[module.__name__, name] = [(key, id(one)) for key, one in value.items()]
            elif isinstance(value, (list, set, frozenset)):
                found[module.__name__, name] = sorted(map(id, value))
            else:
                found[module.__name__, name] = id(value)
    return found

before = tables()
assert ("captum.attr._core.deep_lift", "SUPPORTED_NON_LINEAR") in before
import spade_cli
from spade_cli.interpretation import METHODS, CannotExplain, explainable
assert tables() == before, "importing"

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.MaxPool2d(2), nn.ReLU6(), nn.Flatten(), nn.Linear(196, 5),
                        nn.Softmax(1)).eval()
quick = {"lime": {"samples": 4}, "occlusion": {"window": 8, "stride": 8}, "gradient_shap": {"samples": 2},
         "rise": {"samples": 4}}
x = torch.randn(1, 3, 16, 16)

def fail(*_):
    raise ZeroDivisionError

for name, method in METHODS.items():
    try:
        method(explainable(network, x), x, 1, **quick.get(name, {}))
    except CannotExplain:
        assert name in ("lrp", "gradient_rollout", "legrad")  # no rule for the softmax, and no attention
    assert tables() == before, name
    safe = explainable(network, x)
    safe.model.register_forward_pre_hook(fail)
    try:
        method(safe, x, 1, **quick.get(name, {}))
    except (ZeroDivisionError, CannotExplain):
        pass
    else:
        raise SystemExit(f"{name} did not fail")
    assert tables() == before, f"{name}, failing"
print("the same")
"""


def test_its_tables_are_the_same_before_and_after():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "the same\n", done.stderr


def test_rules_of_others_are_not_used():
    """What other code writes into captum's table while we explain changes nothing here."""
    import torch
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
    from zoo import FOUND_AT, picture, small_convolutional

    from spade_cli import interpretation

    network = interpretation.explainable(small_convolutional(), picture(24))
    expected = interpretation.deeplift(network, picture(24), FOUND_AT).map
    was = dict(SUPPORTED_NON_LINEAR)
    try:
        SUPPORTED_NON_LINEAR.clear()
        assert torch.equal(interpretation.deeplift(network, picture(24), FOUND_AT).map, expected)
    finally:
        SUPPORTED_NON_LINEAR.update(was)
