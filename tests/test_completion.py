"""TAB: what is offered for a line, and that real shells put it there."""

import os
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spade_cli.cli import VERBS, main
from spade_cli.cli.complete_words import FILES, METHODS, VALUES, complete
from spade_cli.cli.completion import SCRIPTS, replies_of_bash, split_line
from spade_cli.cli.config.read_yaml import CONFIGS, read_keys
from spade_cli.errors import UserError

pty = pytest.importorskip("pty")  # not on Windows, where there is none of these shells
ROOT = Path(__file__).parents[1]
PATIENCE = 60  # seconds for a shell's answer, many times what it needs


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with pictures, weights and a run."""
    monkeypatch.chdir(tmp_path)
    for name in ("photographs/my cat.jpg", "photographs/notes.txt", "outputs/2026-01-01/120000-cat/summary.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("mine.pth", "table.yaml", ".hidden.jpg", "cat.jpg"):
        (tmp_path / name).touch()


def words(*typed):
    return [offer.word for offer in complete(typed)]


def test_commands():
    assert words("") == [*VERBS, "--help", "--version"] and words("di") == ["diff"] and words("help", "di") == ["diff"]
    assert all(offer.meaning for offer in complete([""]) if offer.word in VERBS)
    assert words("nothing", "") == []


def test_keys_come_level_by_level_and_once():
    assert words("run", "mod") == ["model=", "model."]
    assert "model.weights=" in words("run", "model.") and "model.weights=" not in words("run", "")
    assert words("run", "interpreter.smo") == ["interpreter.smoothing."]
    assert words("run", "interpreter.smoothing.") == ["interpreter.smoothing.samples=", "interpreter.smoothing.noise="]
    assert words("run", "seed=3", "se") == [] and words("run", "+se") == ["+seed="]


def test_the_keys_of_the_choice_that_was_typed():
    assert "engine.cluster=" in words("batch", "engine=slurm", "engine.")
    assert words("batch", "engine.") == []


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"demo"}))
def test_every_key_of_every_command_is_reached(verb):
    if not (CONFIGS / f"{verb}.yaml").exists():
        return
    for key in read_keys(verb, []):
        group, _, rest = key.partition(".")
        choices = [f"{group}={file.stem}" for file in (CONFIGS / group).glob("*.yaml")] if rest else []
        sections = {f"{key}.", f"{key}="}
        assert any(sections & set(words(verb, *before, key)) for before in [[], *([one] for one in choices)]), key


def test_choices_and_values():
    assert words("run", "pruner=s") == ["pruner=sparsegpt"]
    assert words("sweep", "pruner=obs,o") == [] and words("sweep", "pruner=obs,f") == ["pruner=obs,forward"]
    assert words("run", "interpreter.methods=[lrp,li") == ["interpreter.methods=[lrp,lime"]
    assert words("batch", "batch.strict=") == ["batch.strict=true", "batch.strict=false"]
    assert words("neurons", "device=c") == ["device=cpu", "device=cuda"]


def test_files(monkeypatch, tmp_path):
    assert words("run", "image=") == ["image=cat.jpg", "image=outputs/", "image=photographs/"]
    assert words("run", "image=photographs/") == ["image=photographs/my cat.jpg"]
    assert words("run", "image=.h") == ["image=.hidden.jpg"] and words("run", "image=nowhere/") == []
    assert words("batch", "images=photographs/n") == ["images=photographs/notes.txt"]
    assert words("run", "model.weights=") == [f"model.weights={one}" for one in ("default", "none", "mine.pth")] + [
        f"model.weights={one}/" for one in ("outputs", "photographs")
    ]
    assert "schedule=table.yaml" in words("run", "schedule=ta") and words("run", "--config-dir", "p") == [
        "photographs/"
    ]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert words("run", "image=~/c") == ["image=~/cat.jpg"]


def test_runs_flags_and_shells():
    assert words("open", "") == ["120000-cat", "out=", "threads="] and words("open", "--p") == ["--print", "--plain"]
    assert words("diff", "out=cat.html", "1") == ["120000-cat"]
    assert words("completion", "f") == ["fish"] and words("run", "--cfg", "") == ["job"]


def test_no_file_and_no_value_is_of_a_setting_that_is_gone():
    plain = {"cache", "folder"}  # of commands without YAML
    keys = {key for file in CONFIGS.glob("[a-z]*.yaml") for key in read_keys(file.stem, [])}
    assert set(VALUES) <= keys and set(FILES) - plain <= keys


def test_the_words_that_need_torch_are_right():
    from spade_cli.evaluation.measures.metrics import METRICS
    from spade_cli.interpretation import METHODS as FUNCTIONS
    from spade_cli.interpretation import VISUALIZERS
    from spade_cli.models import LIBRARIES
    from spade_cli.networks.scores import Output

    assert set(METHODS) == set(FUNCTIONS) and set(VALUES["interpreter.visualization"]) == set(VISUALIZERS)
    assert set(VALUES["model.library"]) == set(LIBRARIES) and set(VALUES["model.output"]) == {"auto", *Output}
    assert set(VALUES["metric"]) <= set(METRICS)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_every_value_is_in_the_settings_help(key):
    """Each word that is offered stands in a comment of the YAML files, or is the default there."""
    text = "".join(file.read_text(encoding="utf-8") for file in CONFIGS.rglob("*.yaml")).replace(
        "trojan_ or object_", ""
    )
    for value in VALUES[key]:
        parts = value.split("_") if key == "metric" else [value]
        assert all(re.search(rf"\b{part}\b", text) or f"{part}_" in text or part in "trojan object" for part in parts)


def test_lines_are_split_as_a_shell_does():
    assert split_line("spade run ") == (["spade", "run", ""], None)
    assert split_line(r"spade run image=my\ ca") == (["spade", "run", "image=my ca"], None)
    assert split_line("spade run image=a\\") == (["spade", "run", "image=a"], None)
    assert split_line("spade run 'image=my c") == (["spade", "run", "image=my c"], 0)
    assert split_line("spade run target='a' image=\"it's") == (["spade", "run", "target=a", "image=it's"], 6)


def test_bash_gets_the_part_behind_its_breaks():
    assert list(replies_of_bash(["image=my cat.jpg"], "image=my", None, "=:")) == [r"my\ cat.jpg"]
    assert list(replies_of_bash(["image=my cat.jpg"], "image=my", None, " ")) == [r"image=my\ cat.jpg"]
    assert list(replies_of_bash(["image=my cat.jpg"], "image=my", 6, "=:")) == ["my cat.jpg"]


def test_a_line_that_makes_no_sense_offers_nothing(capfd):
    assert main(["__complete", "bash", "spade run --config-dir", "=:"]) == 0
    assert main(["__complete", "fish", "spade run --config-dir= pruner="]) == 0
    assert capfd.readouterr().out.strip() == ""
    assert main(["completion", "csh"]) == 2 and "give bash, zsh or fish" in capfd.readouterr().err
    with pytest.raises(UserError):
        from spade_cli.cli.completion import main as print_script

        print_script([])


def test_nothing_heavy_is_imported():
    code = "import sys; from spade_cli.cli import main; main(['__complete', 'zsh', 'spade run pruner=']); "
    code += "main(['__complete', 'zsh', 'spade ']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "pruner=obs\tExact" in done.stdout and "'difflib'" in done.stdout
    assert not [one for one in ("torch", "hydra", "omegaconf", "rich", "numpy") if f"'{one}'" in done.stdout]


@pytest.fixture
def spade_on_path(tmp_path, monkeypatch):
    """A command `spade` that says what it was given, but for what shells ask at TAB."""
    script = tmp_path / "bin" / "spade"
    script.parent.mkdir()
    python = f'exec {sys.executable} -m spade_cli "$@"'
    ask = f'case "$1" in __complete|completion) {python};; esac'
    script.write_text(f'#!/bin/sh\n{ask}\nfor word in "$@"; do printf \'<%s>\' "$word"; done; echo END\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def read_until(terminal: int, end: str) -> str:
    """What a shell shows up to what the pattern `end` means."""
    shown = ""
    while re.search(end, shown, re.DOTALL) is None:
        assert select.select([terminal], [], [], PATIENCE)[0], f"the shell went silent: {shown!r}"
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def typed_at(shell: list[str], load: str, line: str) -> str:
    """The command that an interactive shell runs for keys that are typed, TAB among them."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"PS1": "READY", "TERM": "dumb", "PROMPT": "READY"}
        os.execvp(shell[0], shell)
    try:
        read_until(terminal, "READY")
        os.write(terminal, f"{load}; echo LOAD''ED\n".encode())
        read_until(terminal, "LOADED.*READY")
        for part in re.split(r"(\t)", line):
            os.write(terminal, part.encode())
        os.write(terminal, b"\n")
        return re.findall(r"(<.*>)END", read_until(terminal, ">END"))[-1]
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


BASH_SHELL = (["bash", "--norc", "--noprofile", "-i"], 'eval "$(spade completion bash)"')
ZSH_SHELL = (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(spade completion zsh)"')


@pytest.mark.parametrize("shell, load", [BASH_SHELL, ZSH_SHELL], ids=["bash", "zsh"])
@pytest.mark.parametrize(
    "line, run",
    [
        ("spade ru\timag\tphoto\tmy\tmodel.we\tmin\t", "<run><image=photographs/my cat.jpg><model.weights=mine.pth>"),
        ("spade run pruner=sp\tinterpreter.smo\tsa\t4", "<run><pruner=sparsegpt><interpreter.smoothing.samples=4>"),
        ("spade run 'image=photographs/my c\t", "<run><image=photographs/my cat.jpg>"),
    ],
)
def test_in_a_real_shell(spade_on_path, shell, load, line, run):
    assert typed_at(shell, load, line) == run


def test_in_fish(spade_on_path):
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    ask = "spade completion fish | source; complete -C 'spade run model=sq'; complete -C 'spade run image=photographs/'"
    done = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True)
    model, picture = done.stdout.splitlines()
    assert model.startswith("model=squeezenet1_1\t") and picture.replace("\\ ", " ") == "image=photographs/my cat.jpg"


def test_every_script_says_where_to_put_it():
    assert all("spade completion " + shell in script for shell, script in SCRIPTS.items())
