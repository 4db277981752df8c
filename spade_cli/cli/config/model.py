"""The group `model` of the configuration -> a ModelSource: checked and plain."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spade_cli.cli.config.check_values import MISSING, one_of, section, switch, text
from spade_cli.cli.config.compose import import_from_here
from spade_cli.errors import UserError
from spade_cli.models import LIBRARIES, ModelSource
from spade_cli.models.classifier import AUTO, COLOURS, GREY, read_colour, read_size
from spade_cli.models.zero_shot import EXAMPLE, check_prompts
from spade_cli.networks.scores import Output


def model_source(model: Mapping[str, Any], choice: str | None = None) -> ModelSource:
    """The group `model` as plain values."""
    unknown = set(model) - set(inspect.signature(ModelSource).parameters)
    if unknown:
        raise UserError(f"model.{min(unknown)} is not a setting of a model; see spade run --help")
    if model.get("name") == MISSING:
        raise UserError(f"model={choice} needs a name: add model.name=NAME, such as model.name=resnet34")
    if model.get("name") is None and model.get("factory") is None:
        raise UserError(
            f"model={choice} needs a network: add model.factory=package.module:function, or model.name=NAME for one of "
            "model.library"
        )
    size = model.get("size")
    factory, labels = model.get("factory"), model.get("labels")
    return ModelSource(
        name=None if model.get("name") is None else text("model.name", model["name"], "resnet34"),
        factory=None if factory is None else text("model.factory", factory, "package.module:function"),
        weights=text("model.weights", model.get("weights"), "default"),
        labels=None if labels is None else text("model.labels", labels, "PATH"),
        size=None if size is None else read_size("model.size", size),
        mean=_read_colour("model.mean", model.get("mean")),
        std=_read_colour("model.std", model.get("std")),
        library=one_of("model.library", model.get("library", "torchvision"), LIBRARIES),
        channels=None if model.get("channels") is None else _channels(model["channels"]),
        logits=None if model.get("logits") is None else text("model.logits", model["logits"], "logits"),
        ema=None if model.get("ema") is None else switch("model.ema", model["ema"]),
        prompts=_read_prompts(model["prompts"]) if "prompts" in model else None,
        output=one_of("model.output", model.get("output", "auto"), (AUTO, *Output)),
    )


def source_of_run(run: Path) -> ModelSource:
    """What a run's config.yaml says of its network. Raises UserError where it cannot be read."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = run / "config.yaml"
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read ({error}); give the folder of a finished run") from error
    import_from_here()
    return model_source(section(config if isinstance(config, dict) else {}, "model"))


def _read_colour(key: str, value: Any) -> tuple[float, ...] | None:
    """Three numbers of images whose values lie in [0, 1], or None."""
    if value is not None and not isinstance(value, list):
        raise UserError(f"{key}={value} is not three numbers; write for example {key}=[0.5,0.5,0.5]")
    return None if value is None else read_colour(key, value)


def _channels(value: Any) -> int:
    if value not in (COLOURS, GREY) or isinstance(value, bool):
        raise UserError(
            f"model.channels={value}: pictures have {COLOURS} channels, or {GREY} in grey; give one of these"
        )
    return int(value)


def _read_prompts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str | int | float) for one in value):
        raise UserError(f"model.prompts={value} is not a list of texts; write for example {EXAMPLE}")
    return check_prompts([str(one) for one in value], "model.prompts")
