"""A group's function, which its `_target_` names, and its settings: of the right kind, and within their limits."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, get_origin

from spade_cli.cli.config.check_values import is_number, number, one_of, share_inside, whole
from spade_cli.errors import UserError

Check = Callable[[str, Any], object]  # (dotted key, value); raises UserError

MAX_SEED = 2**32 - 1  # NumPy takes no larger one
MAX_DAMPING = 1000.0  # of the mean diagonal: what is left of the Hessian is a thousandth, and every pruner magnitude
MAX_STDEV = 10.0  # normalised pictures lie within about 3 of zero: this hides them
MAX_DENSE_WEIGHT = 100.0  # of the dense network beside a trace: a trace has no say beyond that
MAX_RATE = 10.0  # Adam's step in each coefficient of a picture whose colours are spread over about 1
MAX_MEMORY = 1e6  # gigabytes; more is a number of bytes
PAPER_ROW = 17  # groups of layers in the paper's tables: fc and the blocks of ResNet50


def between(low: float, high: float) -> Check:
    """From `low` to `high`, both allowed."""
    return lambda key, value: number(key, value, low, high)


def count(low: int = 1) -> Check:
    """A whole number of at least `low`."""
    return lambda key, value: whole(key, value, low)


def optional(check: Check) -> Check:
    """What `check` demands, or null."""
    return lambda key, value: None if value is None else check(key, value)


def choice(*names: str) -> Check:
    """One of these words."""
    return lambda key, value: one_of(key, value, names)


def above_zero(high: float) -> Check:
    """More than zero, at most `high`."""
    return lambda key, value: number(key, value, 0, high, above=True)


def _scale(key: str, value: Any) -> None:
    low, high = (number(f"{key}: a share", share, 0, 1, above=True) for share in value)
    if low > high:
        raise UserError(f"{key}={list(value)}: the smaller share comes first; write [{high:g},{low:g}]")


def _ladder(key: str, value: Any) -> None:
    if not value:
        raise UserError(f"{key}=[] has no share to try; write for example {key}=[0.99,0.95,0.9]")
    _shares(key, value)


def _shares(key: str, value: Any) -> None:
    for share in value:
        share_inside(key, share)


def _tables(key: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{key}={value} is not a mapping; leave the paper's tables in place")
    for method, row in value.items():
        if not isinstance(row, list) or len(row) != PAPER_ROW:
            raise UserError(f"{key}.{method}={row}: give a list of {PAPER_ROW} shares: fc, then layer4.2 to layer1.0")
        for share in row:
            number(f"{key}.{method}: a share", share, 0, 1)


def _table_of_method(prefix: str, settings: Mapping[str, Any]) -> None:
    one_of(f"{prefix}.method", settings.get("method", "lrp"), tuple(settings["tables"]))


def _stride_in_window(prefix: str, settings: Mapping[str, Any]) -> None:
    window, stride = settings.get("window"), settings.get("stride")
    if window is not None and stride is not None and stride > window:
        raise UserError(
            f"{prefix}.stride={stride} is larger than {prefix}.window={window}, so that pixels between the squares are "
            f"never covered; give a stride from 1 to {window}"
        )


ENLARGED = choice("nearest", "bilinear")
# By function, as `_target_` names it, and setting. Functions of the user's own have no limits here: they are tried.
LIMITS: Mapping[str, Mapping[str, Check]] = {
    "spade_cli.images.augment.paper": {
        "scale": _scale,
        "flip": between(0, 1),
        "brightness": between(0, 1),  # of 1 already blackens samples; more would do nothing but whiten them
        "hue": between(0, 0.5),
        "erase": between(0, 1),
    },
    "spade_cli.images.augment.noise": {"std": between(0, 1)},
    "spade_cli.pruning.solvers.forward.forward": {
        "granularity": choice("weight", "kernel"),
        "budget": choice("layer", "row"),
    },
    "spade_cli.pruning.solvers.obs.obs": {"granularity": choice("kernel", "weight")},
    "spade_cli.pruning.solvers.weight_scores.random": {"seed": lambda key, value: whole(key, value, 0, MAX_SEED)},
    "spade_cli.pruning.solvers.sparsegpt.sparsegpt": {"lazy_width": count()},
    "spade_cli.pruning.schedule.auto": {
        "fidelity": above_zero(1),
        "ladder": _ladder,
        "last_resort": _shares,
    },
    "spade_cli.pruning.schedule.late": {"last": above_zero(1)},
    "spade_cli.pruning.schedule.paper_resnet50": {"tables": _tables},
    "spade_cli.batch.engines.ray.ray": {
        "cpus": count(),
        "gpus": between(0, 1024),
        "memory": between(0, MAX_MEMORY),
    },
    "spade_cli.batch.engines.slurm.slurm": {
        "cluster": choice("slurm", "local"),
        "images": count(),
        "minutes": count(),
        "cpus": count(),
        "gpus": count(0),
        "memory": above_zero(MAX_MEMORY),
    },
    "occlusion": {"window": optional(count()), "stride": optional(count())},
    "lime": {"samples": count(2)},  # a linear model needs two
    "gradient_shap": {"stdev": between(0, MAX_STDEV)},
    "guided_gradcam": {"interpolation": ENLARGED},
    "gradcam": {"interpolation": ENLARGED},
    "hirescam": {"interpolation": ENLARGED},
    "rise": {"samples": count(2), "visible": share_inside},
    "gradient_rollout": {"interpolation": ENLARGED},
    "legrad": {"interpolation": ENLARGED},
}


# Settings that depend on one another.
TOGETHER: Mapping[str, Callable[[str, Mapping[str, Any]], None]] = {
    "spade_cli.pruning.schedule.paper_resnet50": _table_of_method,
    "occlusion": _stride_in_window,
}


def check_limits(function: str, prefix: str, settings: Mapping[str, Any]) -> None:
    """UserError for a setting beyond the limits of this function; those that have none pass."""
    for name, check in LIMITS.get(function, {}).items():
        if name in settings:
            check(f"{prefix}.{name}", settings[name])
    if function in TOGETHER:
        TOGETHER[function](prefix, settings)


def bind_function(group: str, settings: dict[str, Any], *, taken: int) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that a group's `_target_` names, and its settings, checked; `taken` arguments are the pipeline's."""
    function = find_function(group, settings.pop("_target_", None))
    return function, check_settings(group, function, settings, taken)


def find_function(group: str, target: Any) -> Callable[..., Any]:
    """Import `package.module.function`."""
    if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target):
        raise UserError(
            f"{group}: _target_ is {target!r}; write the function as package.module.function in the YAML file"
        )
    module, _, name = target.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{group}: _target_ {target} cannot be imported (no module {error.name}); check it in the YAML file"
        ) from None
    except AttributeError:
        raise UserError(f"{group}: _target_ {target}: {module} has no {name}; check it in the YAML file") from None
    if not callable(function):
        raise UserError(
            f"{group}: _target_ {target} is {type(function).__name__} and no function; check it in the YAML file"
        )
    return function


def check_settings(group: str, function: Callable[..., Any], settings: Mapping[str, Any], taken: int) -> dict[str, Any]:
    """Settings that the function takes, of the kinds that its defaults have."""
    parameters = list(inspect.signature(function).parameters.values())[taken:]
    known = {parameter.name: parameter for parameter in parameters}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for name, value in settings.items():
        if name not in known and not open_ended:
            listed = ", ".join(known) or "none"
            raise UserError(f"{group}.{name} is no setting of {function.__name__}; its settings: {listed}")
        default = known[name].default if name in known else None
        if default in (None, inspect.Parameter.empty):
            continue
        if not _same_kind(default, value, any_length=get_origin(known[name].annotation) is Sequence):
            raise UserError(
                f"{group}.{name}={value} is of the wrong kind; write it like the default, {_show_default(default)}"
            )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def _show_default(default: Any) -> str:
    return str(list(default)) if isinstance(default, tuple) else str(default)


def _same_kind(default: Any, value: Any, any_length: bool = False) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return is_number(value)
    if isinstance(default, tuple | list):
        if not isinstance(value, tuple | list):
            return False
        if any_length:  # a sequence of one kind of thing
            return not default or all(_same_kind(default[0], v) for v in value)
        return len(value) == len(default) and all(_same_kind(d, v) for d, v in zip(default, value, strict=True))
    return isinstance(value, type(default))
