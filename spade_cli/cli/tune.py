"""spade tune: find the shares that explain best on a set of pictures, and what they gain on others."""

from dataclasses import replace
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.errors import UserError

USAGE = "spade tune [data=world|FOLDER] [KEY=VALUE ...]"
EXAMPLES = (
    "spade tune out=tuned",
    "spade run image=cat.jpg schedule=tuned/schedule.yaml model=demo",
    "spade tune data=photographs model=squeezenet1_1 tuner=greedy ladder=[0.9,0.95,0.99] out=squeezenet",
    "spade tune metric=trojan_auc interpreter.methods=[lrp] trials=200 out=lrp   (in several terminals at once)",
    "spade eval 'conditions=[forward, tuned: forward schedule=tuned/schedule.yaml]' seed=1",
)


def main(arguments: list[str]) -> int:
    """Compose the configuration and tune."""
    return run_command("tune", arguments, _tune, USAGE, EXAMPLES)


def _tune(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.tuning.tune import tune
    from spade_cli.tuning.write_tuning import SCHEDULE

    out = tune(_request(config, line), terminal.console(line.views))
    terminal.print_result("folder", out, line.views, schedule=str(out / SCHEDULE))


def _request(config: dict[str, Any], line: CommandLine) -> Any:
    """Everything that a tuning was asked for. Raises UserError at the first value that makes no sense."""
    from spade_cli.cli.config.check_values import number, section, share_inside, whole
    from spade_cli.cli.eval import some_of
    from spade_cli.tuning.tuning_plan import MEASURED, TUNERS, TuningRequest

    metric = some_of("metric", [config.get("metric")], tuple(MEASURED))[0]
    if section(config, "pruner").get("sparsity") is not None:
        raise UserError("pruner.sparsity is what is tuned here; leave it out, or give shares to try as ladder=[...]")
    ladder, blocks = config.get("ladder"), config.get("blocks")
    if not isinstance(ladder, list) or not ladder:
        raise UserError(f"ladder={ladder} is not a list of shares; write ladder=[0.9,0.95,0.99]")
    return TuningRequest(
        evaluation=_evaluation(config, line, metric),
        metric=metric,
        tuner=some_of("tuner", [config.get("tuner")], TUNERS)[0],
        trials=whole("trials", config.get("trials"), 1),
        blocks=None if blocks is None else whole("blocks", blocks, 1),
        ladder=tuple(share_inside("ladder", share) for share in ladder),
        held_out=number("held_out", config.get("held_out"), 0, 0.9),
        lost=number("lost", config.get("lost"), 0, 1),
    )


def _evaluation(config: dict[str, Any], line: CommandLine, metric: str) -> Any:
    """The pictures, the network and what is measured, as `spade eval` takes them."""
    from spade_cli.cli.config.check_values import number, section, whole
    from spade_cli.cli.config.settings import visualization
    from spade_cli.cli.eval import shared_settings
    from spade_cli.evaluation.evaluation_plan import EvaluationRequest
    from spade_cli.tuning.tuning_plan import MEASURED

    visualization(section(config, "interpreter"))  # nothing is visualized here, but a mistake in it is one all the same
    shared = shared_settings(config, line, "tune", without=["schedule"])
    count, share, calibration = config.get("count"), config.get("trojan_share"), shared["trace"].calibration
    kept = replace(calibration, save=calibration.save or shared["out"] / "statistics")
    return EvaluationRequest(
        **{**shared, "trace": replace(shared["trace"], calibration=kept)},
        conditions={},
        metrics=(MEASURED[metric],),
        curves=(metric,),
        count=(50 if shared["data"] == "world" else None) if count is None else whole("count", count, 2),
        trojan_share=float(metric.startswith("trojan_")) if share is None else number("trojan_share", share, 0, 1),
        arguments=line.overrides,
        settings={key: value for key, value in config.items() if key != "trials"},  # more of them resume it
    )
