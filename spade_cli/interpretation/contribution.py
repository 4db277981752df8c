"""What each channel of a layer adds to an answer: its activation times the gradient of the answer.

Summed over positions. In a network of ReLUs this is exactly the sum of weight x activation along every path from the
channel to the answer. To first order it is what the answer loses without the channel (Molchanov et al. 2017, arXiv
1611.06440, equation 7 without its absolute value).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.interpretation.channels import channel_axis
from spade_cli.networks.modes_and_seeds import eval_mode, seed_generators
from spade_cli.networks.question import Question


def contributions(model: nn.Module, image: Tensor, target: int | Question, layers: Sequence[str]) -> dict[str, Tensor]:
    """What every channel of these layers, at every place, adds to the score of a class or question; by layer's name.

    image (1, 3, H, W), normalised; layers: names as in named_modules. Returns float32 on the CPU: (channels, height,
    width) of feature maps, (channels, tokens) of tokens, (channels,) of a vector. Calls of one layer are summed. The
    model is unchanged. Errors: UserError for a layer that is not there, or that the network never calls.
    """
    known = dict(model.named_modules())
    for name in layers:
        if name not in known:
            raise UserError(f"layer '{name}' is not in the network; spade layers lists what is")
    question = Question(target) if isinstance(target, int) else target
    x = image.detach().clone().to(device_of(model)).requires_grad_()
    with torch.enable_grad(), keep_outputs(model, layers) as outputs:
        with seed_generators(0, x.device):
            score = question.score(model(x)[0])
        for name in layers:
            if not outputs[name]:
                raise UserError(f"layer '{name}' is never called as a module, so its channels cannot be seen")
        flat = [(name, output) for name in layers for output in outputs[name]]
        gradients = torch.autograd.grad(score, [output for _, output in flat], allow_unused=True)
    sums: dict[str, Tensor] = {}
    for (name, output), gradient in zip(flat, gradients, strict=True):
        added = torch.zeros_like(output) if gradient is None else output * gradient
        added = added.detach().float().cpu()
        added = added.movedim(channel_axis(added.shape, known[name], image.shape[-2:]), 0)  # (C, n, ...)
        # (C, H, W), (C, T) or (C,); of windows of the image, which lie where a batch does, (C, all their tokens)
        added = added[:, 0] if added.shape[1] == 1 else added.flatten(1)
        sums[name] = sums[name] + added if name in sums else added
    return sums


@torch.no_grad()
def called_layers(model: nn.Module, image: Tensor) -> set[str]:
    """Names of the modules that a run on the image (1, 3, H, W), normalised, calls and that return one tensor.

    Only these have contributions.
    """
    called: set[str] = set()

    def make_hook(name: str) -> Callable[[nn.Module, object, Any], None]:
        def note_call(module: nn.Module, inputs: object, output: Any) -> None:
            if isinstance(output, Tensor):
                called.add(name)

        return note_call

    handles = [
        module.register_forward_hook(make_hook(name))
        for name, module in model.named_modules(remove_duplicate=False)
        if name
    ]
    try:
        model(image.detach().clone().to(device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return called


@contextmanager
def keep_outputs(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Each layer's outputs, call by call, in eval mode; the network goes on with copies: it may write into them."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def make_hook(name: str) -> Callable[[nn.Module, object, Any], Any]:
        def keep_output(module: nn.Module, inputs: object, output: Any) -> Any:
            outputs[name].append(output)
            return output.clone() if isinstance(output, Tensor) else output

        return keep_output

    handles = [model.get_submodule(name).register_forward_hook(make_hook(name)) for name in dict.fromkeys(layers)]
    try:
        with eval_mode(model):
            yield outputs
    finally:
        for handle in handles:
            handle.remove()
