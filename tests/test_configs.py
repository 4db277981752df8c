"""Every YAML file: it composes, its function is there and takes its settings, and every key has a meaning."""

from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from spade_cli.cli.config.bind_functions import bind_function
from spade_cli.cli.config.compose import compose_config, read_settings
from spade_cli.cli.config.read_yaml import CONFIGS, describe, read_command, read_yaml_settings
from spade_cli.cli.config.settings import GIVEN
from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS, PAPER_METHODS

FILES = sorted(CONFIGS.rglob("*.yaml"))
CHOICES = [(file.parent.name, file.stem) for file in FILES if file.parent != CONFIGS and not file.stem.startswith("_")]


def composed(*overrides: str, name: str = "run") -> dict[str, Any]:
    return read_settings(compose_config(name, overrides, [])[0], name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_every_file_and_key_has_a_meaning(file: Path) -> None:
    assert describe(file), f"{file}: the first comment says what the file is"
    group = "" if file.parent == CONFIGS else f"{file.parent.name}."
    assert not [setting.key for setting in read_yaml_settings(file, group) if not setting.meaning]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_its_function_takes_its_settings(group: str, choice: str) -> None:
    settings = composed(f"{group}={choice}", name="batch" if group == "engine" else "run")[group]
    if group in ("augmentation", "pruner", "schedule", "engine"):
        for key in ("samples", "sparsity", "damping", "layers", "file"):
            settings.pop(key, None)
        function, _ = bind_function(group, settings, taken=GIVEN[group])
        assert function.__name__ == choice


def test_a_sequence_may_have_any_length_and_a_pair_may_not() -> None:
    settings = composed("schedule=auto", "schedule.ladder=[0.8,0.5]", "augmentation.scale=[1]")
    settings["schedule"].pop("layers")
    function, kept = bind_function("schedule", settings["schedule"], taken=GIVEN["schedule"])
    assert function([], None, **kept).ladder == (0.8, 0.5)
    settings["augmentation"].pop("samples")
    with pytest.raises(UserError, match="wrong kind"):
        bind_function("augmentation", settings["augmentation"], taken=GIVEN["augmentation"])


@pytest.mark.parametrize("command", ["run", "batch", "sweep", "eval", "tune"])
def test_the_help_knows_every_key_that_hydra_composes(command: str) -> None:
    own, groups = read_command(command, [])
    known = {setting.key for setting in own}
    for group in groups:
        for choice in group.choices:
            keys = flat(composed(f"{group.name}={choice.name}", name=command)[group.name], f"{group.name}.")
            listed = {setting.key for setting in choice.settings}
            assert {key for key in keys if not key.endswith("_target_")} <= listed, (group.name, choice.name)
            known |= listed
    assert {key for key in flat(composed(name=command), "") if not key.endswith("_target_")} <= known


def flat(settings: dict[str, Any], prefix: str) -> set[str]:
    found = set()
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"}
    return found


def test_a_file_is_read_with_what_it_is_composed_of(tmp_path: Path) -> None:
    (tmp_path / "pruner").mkdir()
    file = tmp_path / "pruner" / "mine.yaml"
    file.write_text(
        "# Mine.\ndefaults:\n  - _level\n\nextra: 3  # how much\nbare: x\nlist:  # section\n  inner: '#1'\n"
    )
    settings = {setting.key: (setting.default, setting.meaning) for setting in read_yaml_settings(file, "pruner.")}
    assert settings["pruner.damping"][0] == "0.01" and settings["pruner.extra"] == ("3", "how much")
    assert settings["pruner.bare"] == ("x", "") and settings["pruner.list"] == ("", "section")
    assert settings["pruner.list.inner"] == ("'#1'", "")


def test_methods_have_their_settings_in_yaml() -> None:
    interpreter = composed()["interpreter"]
    assert set(interpreter["methods"]) <= set(METHODS)
    for name, method in METHODS.items():
        # `layer` is interpreter.cam_layer
        settings = [one for one in signature(method).parameters.values() if one.kind == one.KEYWORD_ONLY]
        wanted = {one.name: one.default for one in settings if one.name not in ("seed", "layer")}
        assert interpreter.get(name, {}) == wanted


def test_the_ten_methods_have_a_row_in_the_papers_tables() -> None:
    tables = composed("schedule=paper_resnet50")["schedule"]["tables"]
    assert set(tables) == set(PAPER_METHODS) | {"fast_lrp", "visualization"}
    assert all(len(row) == 17 and all(0 <= share < 1 for share in row) for row in tables.values())


def test_layers_needs_no_weights() -> None:
    for choice in ("resnet50", "torchvision", "python"):
        assert composed(f"model={choice}", name="layers")["model"]["weights"] == "none"
