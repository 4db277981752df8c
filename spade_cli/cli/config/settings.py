"""The composed configuration -> what the program below the command line takes: checked, plain, with functions bound."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from spade_cli.cache import Cache
from spade_cli.cli.config.bind_functions import (
    MAX_DAMPING,
    MAX_DENSE_WEIGHT,
    MAX_MEMORY,
    MAX_RATE,
    MAX_SEED,
    bind_function,
    check_limits,
    check_settings,
)
from spade_cli.cli.config.check_values import (
    cache_folder,
    device_name,
    level,
    number,
    one_of,
    output_folder,
    path,
    section,
    shares,
    text,
    whole,
)
from spade_cli.cli.config.compose import CommandLine
from spade_cli.cli.config.model import model_source
from spade_cli.cli.config.schedule_file import schedule_name, with_shares
from spade_cli.errors import UserError
from spade_cli.images.download import is_url
from spade_cli.interpretation import (
    METHODS,
    OTHER_NAMES,
    PAPER_METHODS,
    VISUALIZERS,
    OwnMethod,
    SaliencyMethod,
    SmoothedMethod,
    check_window,
    own_method,
    own_objective,
)
from spade_cli.pruning.schedule import auto, none
from spade_cli.report.pictures import OWN, SCALES
from spade_cli.run.calibrate import Calibration
from spade_cli.run.request import KEPT, RunRequest
from spade_cli.run.trace_settings import TraceSettings
from spade_cli.sizes import Size, find_sides, key_size

MAX_SAMPLES = 100_000  # 15 GB at 224 pixels, and ten times what the paper took
MAX_COPIES = 1000  # of a smoothed map: a hundred times what helps
USUAL_SIZE = 224
MAX_TRACES = 64  # far more than a search finds
# What each group's function is given by the pipeline; the rest of its arguments are settings.
GIVEN = {"augmentation": 4, "pruner": 4, "schedule": 2, "method": 3, "visualize": 2, "engine": 4}


def run_request(config: Mapping[str, Any], line: CommandLine) -> RunRequest:
    """Everything that one run was asked for. Raises UserError at the first value that makes no sense."""
    interpreter = section(config, "interpreter")
    model = model_source(section(config, "model"), line.choices.get("model"))
    image = text("image", config.get("image"), "PATH")
    visualize = visualization(interpreter)
    trace = trace_settings(config, line.choices, model.size)
    if visualize is not None:
        trace = replace(trace, visualization_traces=visualization_traces(interpreter))
    return RunRequest(
        image=Path(image) if is_url(image) else path("image", image, "PATH"),
        source=image if is_url(image) else "",
        model=model,
        output=output_folder("out", config.get("out")),
        trace=trace,
        saliency=saliency_methods(interpreter, trace.seed, model.size),
        scale=map_scale(interpreter),
        visualize=visualize,
        visualization_targets=visualization_targets(interpreter),
        cache=find_cache(interpreter),
        target=text("target", config.get("target"), "predicted"),
        device=device_name(config.get("device")),
        keep=_read_keep(config.get("keep", list(KEPT))),
        command=line.command,
        config=line.yaml,
    )


def trace_settings(
    config: Mapping[str, Any], choices: Mapping[str, str], size: Size | None = None, without: Collection[str] = ()
) -> TraceSettings:
    """How a trace is made, for every command. Raises UserError at the first value that makes no sense.

    choices: the names that were chosen, by group. size: of the picture, where it is known. without: the groups that the
    command does not have: no schedule prunes nothing, and without `calibration` its defaults hold.
    """
    seed = whole("seed", config.get("seed"), 0, MAX_SEED)
    groups = ("augmentation", "pruner", "schedule", "calibration")
    augmentation, pruner, schedule, calibration = (
        {} if group in without else section(config, group) for group in groups
    )
    sparsity = level(pruner.pop("sparsity", None))
    several = (config.get("interpreter") or {}).get("traces", 1)
    return TraceSettings(
        augmentation_name=choices["augmentation"],
        sample_count=sample_count(augmentation, size),
        augmentation=function_of("augmentation", augmentation),
        pruner_name=choices["pruner"],
        damping=number("pruner.damping", pruner.pop("damping", None), 0, MAX_DAMPING),
        pruner=function_of("pruner", pruner),
        schedule_name=schedule_name(choices["schedule"], schedule) if schedule else "none",
        layer_shares=shares("schedule.layers", schedule.pop("layers", None)),
        schedule=schedule_of(schedule, sparsity) if schedule else none,
        level=sparsity,
        calibration=calibration_settings(calibration) if calibration else Calibration(),
        seed=seed,
        map_traces=whole("interpreter.traces", several, 1, MAX_TRACES),
    )


def _read_keep(asked: Any) -> tuple[str, ...]:
    if not isinstance(asked, list) or not all(name in KEPT for name in asked):
        raise UserError(f"keep={asked}: give a list of {' and '.join(KEPT)}, such as keep=[report], or keep=[]")
    return tuple(asked)


def calibration_settings(settings: Mapping[str, Any]) -> Calibration:
    """The group `calibration` as plain values."""
    rows, save, memory = (settings.get(key) for key in ("rows_per_column", "save", "memory"))
    precision = settings.get("precision")
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"calibration.precision={precision} is unknown; there are auto, float32 and bfloat16")
    return Calibration(
        rows_per_column=None if rows == "all" else whole("calibration.rows_per_column (or all)", rows, 1),
        batch_size=whole("calibration.batch_size", settings.get("batch_size"), 1),
        memory=math.inf if memory is None else 1e9 * number("calibration.memory", memory, 0, MAX_MEMORY, above=True),
        save=None if save is None else output_folder("calibration.save", save),
        precision=precision,
    )


def function_of(group: str, settings: dict[str, Any]) -> Callable[..., Any]:
    """A group's function with its settings bound."""
    target = settings.get("_target_")
    function, keywords = bind_function(group, settings, taken=GIVEN[group])
    check_limits(str(target), group, keywords)
    return partial(function, **keywords)


def schedule_of(settings: dict[str, Any], sparsity: float | None) -> Callable[..., Any]:
    """The schedule with its settings bound; the shares of a table are read from its file."""
    schedule = function_of("schedule", with_shares(settings))
    if schedule.func is auto:  # type: ignore[attr-defined]
        schedule([], sparsity)  # a level of 0 or 1 leaves it nothing to find
    return schedule


def sample_count(augmentation: dict[str, Any], size: Size | None) -> int:
    """`augmentation.samples`, taken out of the settings; fewer fit into the memory where pictures are large."""
    samples = whole("augmentation.samples", augmentation.pop("samples", None), 1, MAX_SAMPLES)
    side = math.sqrt(math.prod(find_sides(size or USUAL_SIZE)))  # of a square as large
    most = int(MAX_SAMPLES * (USUAL_SIZE / max(side, USUAL_SIZE)) ** 2)
    if samples > most:
        raise UserError(
            f"augmentation.samples={samples} of model.size={key_size(size or USUAL_SIZE)} pixels do not fit into the "
            f"memory; give at most {most}"
        )
    return samples


def saliency_methods(interpreter: Mapping[str, Any], seed: int, size: Size | None = None) -> dict[str, SmoothedMethod]:
    """The methods asked for by name, with their settings bound; `size`: of the picture, where it is known."""
    if "methods" not in interpreter:  # interpreter=visualization
        return {}
    map_scale(interpreter)  # a mistake, also where nothing is drawn
    asked = interpreter["methods"]
    if asked == "all":
        asked = list(PAPER_METHODS)
    if isinstance(asked, str):
        asked = [asked]
    if not isinstance(asked, list) or not asked:
        raise UserError(
            f"interpreter.methods={asked} names no method; write [saliency,lrp] or all, or interpreter=visualization"
        )
    typed, asked = asked, [OTHER_NAMES.get(name, name) if isinstance(name, str) else name for name in asked]
    own = {path: _own(path, interpreter, seed) for path in asked if isinstance(path, str) and ":" in path}
    for name in asked:
        if not isinstance(name, str) or (name not in own and name not in METHODS):
            near = get_close_matches(str(name), METHODS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"interpreter.methods: {name} is unknown; {hint}there are {', '.join(METHODS)}")
    names = [own[name].name if name in own else name for name in dict.fromkeys(asked)]
    if twice := [path for path, method in own.items() if names.count(method.name) > 1 or method.name in METHODS]:
        raise UserError(f"interpreter.methods: {twice[0]} has the name of another method; give the function a new name")
    # Settings of methods that were not asked for are checked as well: a mistake in them is one all the same.
    sections = {name: dict(interpreter.get(name) or {}) for name in METHODS}
    if (layer := interpreter.get("cam_layer")) is not None:
        for name in ("guided_gradcam", "gradcam", "hirescam", "score_cam"):
            sections[name]["layer"] = text("interpreter.cam_layer", layer, "layer4")
    settled: dict[str, SaliencyMethod] = {name: _method(name, sections[name], seed) for name in METHODS}
    settled |= {method.name: method for method in own.values()}
    samples, noise = smoothing_settings(interpreter)
    if (samples == 1 or noise == 0) and (plain := [name for name in typed if name in OTHER_NAMES]):
        raise UserError(
            f"interpreter.methods: {plain[0]} is {OTHER_NAMES[plain[0]]} over noisy copies; give "
            "interpreter.smoothing.samples=2 or more, and interpreter.smoothing.noise above 0"
        )
    methods = {name: SmoothedMethod(settled[name], samples, noise, seed) for name in names}
    if size is not None:
        check_window(methods, size)
    return methods


def smoothing_settings(interpreter: Mapping[str, Any]) -> tuple[int, float]:
    """How many noisy copies a map is averaged over, and their noise."""
    smoothing = interpreter.get("smoothing") or {}
    samples = whole("interpreter.smoothing.samples", smoothing.get("samples"), 1, MAX_COPIES)
    return samples, number("interpreter.smoothing.noise", smoothing.get("noise"), 0, 1)


def map_scale(interpreter: Mapping[str, Any]) -> str:
    """`interpreter.scale`: on which scale maps are drawn."""
    return one_of("interpreter.scale", interpreter["scale"], SCALES) if "scale" in interpreter else OWN


def _own(path: str, interpreter: Mapping[str, Any], seed: int) -> OwnMethod:
    """A method of the user's with the settings of the section that has its function's name."""
    method = own_method(path)
    keywords = check_settings(
        f"interpreter.{method.name}", method.function, interpreter.get(method.name) or {}, GIVEN["method"]
    )
    if "seed" in inspect.signature(method.function).parameters:
        keywords.setdefault("seed", seed)
    return replace(method, settings=keywords)


def _method(name: str, settings: Mapping[str, Any], seed: int) -> SaliencyMethod:
    function = METHODS[name]
    key = f"interpreter.{name}"
    keywords = check_settings(key, function, settings, GIVEN["method"])
    for setting, value in keywords.items():
        if isinstance(inspect.signature(function).parameters[setting].default, int):  # samples, steps, pixels
            whole(f"{key}.{setting}", value, 1)
    check_limits(name, key, keywords)
    if "seed" in inspect.signature(function).parameters:
        keywords["seed"] = seed
    return partial(function, **keywords)


def visualization(interpreter: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Feature visualization with its settings bound; None where the interpreter has none."""
    visualization_targets(interpreter)
    visualization_traces(interpreter)
    find_cache(interpreter)
    if "visualization" not in interpreter:  # interpreter=saliency, whose command may set the steps
        return None
    function = VISUALIZERS[one_of("interpreter.visualization", interpreter["visualization"], tuple(VISUALIZERS))]
    steps, rate, objective = (interpreter.get(name) for name in ("steps", "learning_rate", "objective"))
    settings: dict[str, Any] = {  # null, which becomes None here: what the function says
        "objective": None if objective is None else own_objective(text("interpreter.objective", objective, "my:climb")),
        "crops": whole("interpreter.crops", interpreter.get("crops"), 1),
        "reach": number("interpreter.reach", interpreter.get("reach"), 0, 1, above=True),
        "dense_weight": number("interpreter.dense_weight", interpreter.get("dense_weight"), 0, MAX_DENSE_WEIGHT),
        "steps": None if steps is None else whole("interpreter.steps", steps, 1),
        "learning_rate": None if rate is None else number("interpreter.learning_rate", rate, 0, MAX_RATE, above=True),
    }
    taken = inspect.signature(function).parameters
    return partial(function, **{name: one for name, one in settings.items() if name in taken and one is not None})


def visualization_traces(interpreter: Mapping[str, Any]) -> int:
    """How many traces a visualization excites together."""
    return whole("interpreter.visualization_traces", interpreter.get("visualization_traces", 1), 1, MAX_TRACES)


def visualization_targets(interpreter: Mapping[str, Any]) -> tuple[str | int, ...]:
    """`interpreter.targets`: classes by name or index, and channels as layer:channel."""
    value = interpreter.get("targets", [])
    listed = value if isinstance(value, list) else [value]
    for target in listed:
        if isinstance(target, bool) or not isinstance(target, str | int) or target == "":
            raise UserError(f"interpreter.targets: {target} is not a class or a channel; write [tabby,281,layer4.2:17]")
    return tuple(listed)


def find_cache(interpreter: Mapping[str, Any]) -> Cache | None:
    """The folder that keeps visualizations; None where it is switched off."""
    if not {"cache", "cache_limit"} <= set(interpreter):  # interpreter=saliency
        return None
    limit = 1e9 * number("interpreter.cache_limit", interpreter["cache_limit"], 0, MAX_MEMORY, above=True)
    folder = cache_folder("interpreter.cache", interpreter["cache"])
    return None if folder is None else Cache(folder, limit)
