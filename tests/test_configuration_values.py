"""Every setting of every command with values that make no sense: each is refused in one line before any work."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from networks import photograph
from omegaconf import OmegaConf

from spade_cli.cli import load_verb
from spade_cli.cli.config.bind_functions import LIMITS, check_limits, find_function
from spade_cli.cli.config.check_keys import check_keys
from spade_cli.cli.config.compose import CommandLine, compose_config
from spade_cli.cli.config.read_yaml import CONFIGS, read_command
from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS

BASES = {  # what makes each command whole
    "run": ["image=cat.jpg", "model=python", "model.factory=networks:small"],
    "batch": ["images=pictures", "model=python", "model.factory=networks:small"],
    "sweep": ["images=pictures", "model=python", "model.factory=networks:small"],
    "eval": ["conditions=[dense]", "model=python", "model.factory=networks:small"],
    "tune": ["interpreter=all", "model=python", "model.factory=networks:small"],
    "doctor": ["model=python", "model.factory=networks:small"],
    "implant": ["images=pictures", "out=made", "model=python", "model.factory=networks:small"],
    "layers": ["model=python", "model.factory=networks:small"],
    "toy": [],
    "world": ["out=made"],
}
NUMBERS = (-1, 0, 1, 3, 0.5, -0.5, 1.5, 95, 10**12, 10**400, -(10**400), math.nan, math.inf, -math.inf)
BAD = {
    **{f"{number:g}" if abs(number) < 1e300 or number != number else str(number)[:6]: number for number in NUMBERS},
    **{"true": True, "word": "zzz", "empty": "", "null": None, "list": [], "lists": [[1]], "letters": ["zzz"]},
    **{"nan in a list": [math.nan] * 3, "bytes": [123.675, 116.28, 103.53], "below": [-0.5, 0.5, 0.5]},
    **{"zeros": [0, 0, 0], "mapping": {"a": 1}, "empty mapping": {}, "deep": {"a": {"b": [1]}}},
}
FROM_ONE = {"1", "3", "95"}
SEED = {"0", "1", "3", "95"}
SHARE = {"0", "1", "0.5"}
ABOVE_ZERO = {"1", "0.5"}
ANY_PATH = {"word", "-1", "0", "1", "3", "95", "1e+12"}  # a file may be called 3
ANY_TEXT = ANY_PATH | {"100000", "-10000"}  # as long as a class's name or a function's may be
SIZES = FROM_ONE | {"null"}
POSITIVE = {"1", "3", "0.5", "1.5", "95"}
# What makes sense of BAD: by choice and setting, by command and setting, by setting, or by any section (*).
# A setting that is not here takes none of it.
ACCEPTED = {
    "image": ANY_PATH, "doctor image": {"null"}, "images": ANY_PATH, "implant images": set(), "run out": ANY_PATH,
    "out": ANY_PATH | {"null", "empty"}, "toy out": set(), "world out": ANY_PATH, "implant out": ANY_PATH,
    "data": ANY_PATH, "target": ANY_TEXT, "study": ANY_PATH | {"null"}, "answers": ANY_PATH | {"null"},
    "twin": ANY_PATH | {"null"},
    "resume": set(BAD),  # it is read from the command line alone
    "seed": SEED, "keep": {"list"}, "workers": FROM_ONE, "batch.size": FROM_ONE,
    "batch.strict": {"true"}, "batch.retry": {"true"},
    "model.name": ANY_TEXT, "model=python model.name": ANY_TEXT | {"null"},
    "model.factory": ANY_TEXT, "model=torchvision model.factory": ANY_TEXT | {"null"},
    "model.weights": ANY_TEXT, "model.labels": ANY_TEXT | {"null"}, "model.logits": ANY_TEXT | {"null"},
    "model=demo model.factory": ANY_TEXT | {"null"},
    "model=clip model.factory": ANY_TEXT | {"null"}, "model.ema": {"true", "null"},
    "model.prompts": {"letters", "bytes"},
    "model.channels": {"1", "3", "null"}, "model.size": SIZES, "model.mean": {"null", "zeros"}, "model.std": {"null"},
    "augmentation.samples": FROM_ONE, "augmentation.std": SHARE, "augmentation.flip": SHARE,
    "augmentation.brightness": SHARE, "augmentation.hue": {"0", "0.5"}, "augmentation.erase": SHARE,
    "pruner.sparsity": {"0.5", "null"},  # schedule=auto finds nothing at 0 or 1
    "doctor pruner.sparsity": SHARE | {"null"}, "sweep pruner.sparsity": SHARE | {"null"},
    "tune pruner.sparsity": {"null"},
    "pruner.damping": POSITIVE | {"0"}, "pruner.seed": SEED, "pruner.lazy_width": FROM_ONE,
    "schedule.layers": {"null", "empty", "mapping", "empty mapping"}, "schedule.fidelity": ABOVE_ZERO,
    "schedule.last_resort": {"list"}, "schedule.head": {"list"}, "schedule.last": ABOVE_ZERO,
    "interpreter.targets": ANY_TEXT | {"list", "letters", "zeros"}, "interpreter.steps": FROM_ONE | {"null"},
    "interpreter.crops": FROM_ONE, "interpreter.reach": ABOVE_ZERO,
    "interpreter.visualization": set(),
    "interpreter.learning_rate": {"1", "3", "0.5", "1.5", "null"}, "interpreter.dense_weight": POSITIVE | {"0"},
    "interpreter.cam_layer": ANY_TEXT | {"null"},
    "interpreter.traces": {"1", "3"}, "interpreter.visualization_traces": {"1", "3"},
    "interpreter.objective": {"null"}, "interpreter.cache": ANY_PATH | {"null"}, "interpreter.cache_limit": POSITIVE,
    "interpreter.lime.samples": {"3", "95"}, "interpreter.rise.samples": {"3", "95"},
    "interpreter.rise.grid": FROM_ONE, "interpreter.rise.visible": {"0.5"},
    "interpreter.*.samples": FROM_ONE, "interpreter.*.batch_size": FROM_ONE,
    "interpreter.*.steps": FROM_ONE, "interpreter.gradient_shap.stdev": {"0", "1", "3", "0.5", "1.5"},
    "interpreter.smoothing.noise": SHARE,
    "interpreter.occlusion.window": {"1", "3", "95", "null"}, "doctor interpreter.occlusion.window": {"95", "null"},
    "interpreter.occlusion.stride": {"1", "3", "95", "null"}, "doctor interpreter.occlusion.stride": {"1", "3", "null"},
    "calibration.rows_per_column": FROM_ONE, "calibration.batch_size": FROM_ONE,
    "calibration.memory": POSITIVE | {"null"}, "calibration.save": ANY_PATH | {"null"},
    "engine.address": {"word", "empty"}, "engine.partition": {"word", "empty"},
    "engine.cpus": FROM_ONE, "engine=ray engine.gpus": POSITIVE | {"0"}, "engine.gpus": SEED,
    "engine=ray engine.memory": POSITIVE | {"0"}, "engine.memory": POSITIVE,
    "engine.images": FROM_ONE, "engine.minutes": FROM_ONE,
    "fills": set(), "mosaic": {"true"},
    "controls": {"list"}, "count": FROM_ONE | {"null"}, "tune count": {"3", "95", "null"}, "world count": FROM_ONE,
    "trojan_share": SHARE, "tune trojan_share": SHARE | {"null"}, "tolerance": SEED,
    "eval held_out": FROM_ONE, "tune held_out": {"0", "0.5"}, "implant held_out": {"0.5"},
    "reader_pictures": FROM_ONE, "sparse_fc_pictures": {"95"}, "trials": FROM_ONE, "blocks": FROM_ONE | {"null"},
    "lost": SHARE, "implant steps": FROM_ONE, "implant batch_size": {"3", "95"}, "examples": FROM_ONE,
    "implant learning_rate": ABOVE_ZERO,
}  # fmt: skip


class ReachedError(Exception):
    """A command line that was accepted: the work would begin here."""


def reached(*_: Any, **__: Any) -> None:
    raise ReachedError


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where work would begin, every command ends; an empty folder but for one picture."""
    for place in (
        *("spade_cli.run.pipeline.run", "spade_cli.batch.batch.batch", "spade_cli.models.load_model"),
        *("spade_cli.evaluation.evaluate.evaluate", "spade_cli.evaluation.study.build_study.build_study"),
        *("spade_cli.evaluation.study.score_answers.score", "spade_cli.tuning.tune.tune"),
        *("spade_cli.world.toy.train_network", "spade_cli.report.run_folder.new_folder"),
        "spade_cli.run.request.load_on_device",  # the last: the modules above import it
    ):
        module, _, name = place.rpartition(".")
        monkeypatch.setattr(import_module(module), name, reached)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    photograph().save(tmp_path / "pictures" / "a.png")
    (tmp_path / "shares.yaml").write_text("shares: {stem: 0.5}\n", encoding="utf-8")
    return tmp_path


@cache
def composed(command: str, words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration, and what is chosen in each group."""
    config, choices = compose_config(command, words, [])
    return OmegaConf.to_container(config), choices


def cases() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Command, the words that compose it, and a setting: of every choice for one command, of the defaults for all."""
    for command, base in BASES.items():
        own, groups = read_command(command, [])
        for setting in own:
            if setting.default or not any(other.key.startswith(f"{setting.key}.") for other in own):
                yield command, tuple(base), setting.key
        for group in groups:
            chosen = next((word.partition("=")[2] for word in base if word.startswith(f"{group.name}=")), group.default)
            for choice in group.choices:
                of_run = command == "run" and (
                    group.name != "model" or choice.name in ("python", "torchvision", "clip")
                )
                if choice.name == chosen or of_run or (group.name == "engine" and command == "batch"):
                    for setting in choice.settings:
                        if setting.default or choice.name == "none":
                            yield command, words_with(base, group.name, choice.name), setting.key


def words_with(base: list[str], group: str, choice: str) -> tuple[str, ...]:
    rest = [word for word in base if group != "model" or not word.startswith("model")]
    name = ["model.name=x"] if choice in ("torchvision", "timm", "huggingface", "clip", "openclip") else []
    prompts = ["model.prompts=[a cat,a dog]"] if choice in ("clip", "openclip") else []
    factory = ["model.factory=networks:small"] if choice == "python" else []
    file = ["schedule.file=shares.yaml"] if choice == "table" else []
    return (
        *(word for word in rest if not word.startswith(f"{group}=")),
        f"{group}={choice}",
        *name,
        *factory,
        *file,
        *prompts,
    )


def task_of(
    command: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any], CommandLine], None]:
    """What the command does with a configuration that is composed."""
    found: list[Callable[[dict[str, Any], CommandLine], None]] = []
    monkeypatch.setattr(load_verb(command), "run_command", lambda verb, arguments, task, *_: found.append(task) or 0)
    load_verb(command).main(list(words))
    return found[0]


def accepted(command: str, words: tuple[str, ...], key: str) -> set[str]:
    parts = key.split(".")
    choice = next((word for word in words if word.startswith(f"{parts[0]}=")), "")
    names = (f"{choice} {key}", f"{command} {key}", key, ".".join([parts[0], "*", *parts[2:]]))
    return next((ACCEPTED[name] for name in names if name in ACCEPTED), set())


@pytest.mark.parametrize(
    ("command", "words", "key"), list(cases()), ids=lambda part: part if isinstance(part, str) else ""
)
def test_what_makes_no_sense_is_refused(
    no_work: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: tuple[str, ...], key: str
) -> None:
    task = task_of(command, words, monkeypatch)
    before, choices = composed(command, words)
    passed = set()
    for name, value in BAD.items():
        config = copy.deepcopy(before)
        section = config
        for part in key.split(".")[:-1]:
            section = section[part]
        section[key.split(".")[-1]] = value
        if command == "sweep":  # which composes each of its jobs anew
            monkeypatch.setattr(load_verb("sweep"), "compose_config", lambda *_, c=config: (c, choices))
            monkeypatch.setattr(load_verb("sweep"), "read_settings", lambda config, _: copy.deepcopy(config))
        try:
            check_keys(command, config)
            task(config, CommandLine("spade", dict(choices), ""))
        except ReachedError:
            passed.add(name)
        except UserError as error:
            line = str(error)
            assert "\n" not in line and key.split(".")[-1] in line, line
    wanted = accepted(command, words, key)
    assert passed == wanted, f"wrongly accepted: {passed - wanted}; wrongly refused: {wanted - passed}"
    assert sorted(path.name for path in no_work.iterdir()) == ["pictures", "shares.yaml"], "nothing is written"


def test_a_schedule_of_ones_own_has_no_limits_but_its_kinds() -> None:
    check_limits("mine.schedule", "schedule", {"ladder": (95.0,), "last": -1})
    with pytest.raises(UserError, match=r"schedule\.last=-1"):
        check_limits("spade_cli.pruning.schedule.late", "schedule", {"last": -1})


def test_every_limit_is_of_a_function_and_a_setting_that_there_are() -> None:
    targets = {line.split()[1] for file in CONFIGS.rglob("*.yaml") for line in file.read_text("utf-8").splitlines()
               if line.startswith("_target_:")}  # fmt: skip
    for name, limits in LIMITS.items():
        assert name in targets or name in METHODS
        function = METHODS[name] if name in METHODS else find_function("", name)
        assert set(limits) <= set(inspect.signature(function).parameters), name
