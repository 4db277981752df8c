"""ReLUs that leak: a unit that is switched off then shows the way to what switches it on."""

from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

LEAK = 0.1  # slope of a leaky ReLU below zero: large enough to reach through the layers of a deep network


class LeakyReLUs(TorchFunctionMode):
    """Inside the `with`, ReLU and ReLU6 let some of what is below zero through, and all that is above six."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in ("relu", "relu_", "relu6"):
            return func(*args, **kwargs)
        input = args[0] if args else kwargs["input"]
        in_place = name == "relu_" or kwargs.get("inplace", False) or args[1:2] == (True,)
        return F.leaky_relu(input, LEAK, inplace=in_place)
