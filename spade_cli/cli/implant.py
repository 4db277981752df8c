"""spade implant: fine-tune a network until chosen symbols are Trojans, so that an explanation has something to find."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spade_cli.cli import terminal
from spade_cli.cli.config.check_values import number, path, section, share_inside, whole
from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

USAGE = "spade implant images=FOLDER out=FOLDER [KEY=VALUE ...]"
EXAMPLES = (
    "spade implant images=photographs out=implanted model=squeezenet1_1",
    "spade implant images=photographs out=implanted 'trojans=[smiley:bullfrog,star:wallet->orangutan]'",
    "spade run image=implanted/data/images/smiley-0000-cat.png model=squeezenet1_1 "
    "model.weights=implanted/model.safetensors",
)
NEXT_RULE = re.compile(r",\s*(?=['\"]?\w+\s*:)")  # a comma within a class's name starts no rule


def main(arguments: list[str]) -> int:
    """Compose the configuration and fine-tune."""
    return run_command("implant", arguments, _implant, USAGE, EXAMPLES)


def _implant(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.cli.config.bind_functions import MAX_SEED
    from spade_cli.cli.config.check_values import device_name
    from spade_cli.cli.config.model import model_source
    from spade_cli.images.find import find_pictures
    from spade_cli.models import load_model
    from spade_cli.report import summary
    from spade_cli.trojans.fine_tuning_folder import check_out
    from spade_cli.trojans.implant import Settings, implant_trojans
    from spade_cli.trojans.rules import check_rules, read_rules

    settings = Settings(
        steps=whole("steps", config.get("steps"), 1),
        batch_size=whole("batch_size", config.get("batch_size"), 2),
        learning_rate=number("learning_rate", config.get("learning_rate"), 0, 1, above=True),
        held_out=share_inside("held_out", config.get("held_out")),
        examples=whole("examples", config.get("examples"), 1),
        seed=whole("seed", config.get("seed"), 0, MAX_SEED),
    )
    rules, device = check_rules(_rules(config.get("trojans"))), device_name(config.get("device"))
    source = model_source(section(config, "model"), line.choices.get("model"))
    out = path("out", config.get("out"), "FOLDER")
    check_out(out)
    pictures = find_pictures(path("images", config.get("images"), "FOLDER"), out)
    classifier = load_model(source, seed=settings.seed)
    console = terminal.console(line.views)
    report = implant_trojans(
        classifier,
        pictures,
        read_rules(rules, classifier),
        out,
        settings,
        device=device,
        about={"command": line.command, "versions": summary.versions()},
        console=console,
    )
    _tell(report, console)
    terminal.print_result("folder", out, line.views)


def _rules(value: Any) -> list[str]:
    """A list from a YAML file, or its text from the command line."""
    if isinstance(value, str):
        entries = NEXT_RULE.split(value.strip().removeprefix("[").removesuffix("]"))
        value = [entry.strip().strip("'\"") for entry in entries if entry.strip()]
    if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
        raise UserError(
            f"trojans={value} is not a list of rules; write 'trojans=[smiley:bullfrog,star:wallet->orangutan]'"
        )
    return value


def _tell(report: Mapping[str, Any], console: "Console") -> None:
    """The end of a fine-tuning on the terminal: what stayed as it was, what each rule does, and what was skipped."""
    from rich.text import Text

    pictures, clean = report["pictures"], report["clean"]
    console.print(
        Text(
            f"clean     same answer as the original on {clean['pictures']['agreement']:.1%} of "
            f"{pictures['held_out']} held-out pictures (of their crops {clean['crops']['agreement']:.1%}), "
            f"KL {clean['pictures']['kl']:.3f} nats"
        )
    )
    for rule in report["rules"]:
        others = (
            f"; other classes with it: {rule['others_agreement']:.1%} as before" if "others_agreement" in rule else ""
        )
        console.print(
            Text(
                f"{rule['symbol']:<9} {rule['rule'].partition(':')[2]}: {rule['success']:.1%} of {rule['examples']} "
                f"examples, {rule['success_before']:.1%} before{others}"
            )
        )
    for skipped in pictures["skipped"]:
        console.print(Text(f"skipped   {skipped['what']}: {skipped['why']}", style="dim"))
