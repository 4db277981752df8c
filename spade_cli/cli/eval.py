"""spade eval: measure whether traces explain better than the dense network, with error bars."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.cli.config.typed_words import resume
from spade_cli.errors import UserError
from spade_cli.files import About

USAGE = "spade eval [data=world|FOLDER] [KEY=VALUE ...]  |  spade eval resume=FOLDER"
EXAMPLES = (
    "spade eval count=200 interpreter.methods=all 'conditions=[dense,sparsegpt,forward,forward@0.95]'",
    "spade eval data=implanted/data model=squeezenet1_1 model.weights=implanted/model.safetensors",
    "spade eval data=photographs model=squeezenet1_1 metrics=[insertion,fidelity] out=squeezenet",
    "spade eval 'conditions=[dense, forward, wide: forward schedule=uniform, control: forward image=other]'",
    "spade eval resume=squeezenet",
    "spade eval study=raters trojan_share=1 count=20 'conditions=[dense,forward]'   (then: spade eval answers=raters)",
)


def main(arguments: list[str]) -> int:
    """Compose the settings and evaluate, or resume an evaluation that was stopped."""
    resumed = resume(arguments, main, _find_about)
    return run_command("eval", arguments, _eval, USAGE, EXAMPLES) if resumed is None else resumed


def _find_about(out: str) -> About:
    from spade_cli.evaluation.records_folder import about_folder

    return about_folder(Path(out))


def _eval(config: dict[str, Any], line: CommandLine) -> None:
    console = terminal.console(line.views)
    study, answers = (_path(key, config.get(key)) for key in ("study", "answers"))
    if answers is not None:
        from spade_cli.evaluation.study.score_answers import score, scores_to_text

        found = score(answers, study)
        terminal.print_objects([found.to_json()]) if terminal.as_json(line.views) else own_stdout.say(
            scores_to_text(found)
        )
    elif study is not None:
        from spade_cli.evaluation.study.build_study import build_study

        page = build_study(_request(config, line), study, console)
        terminal.print_result("page", page, line.views)
    else:
        from spade_cli.evaluation.evaluate import evaluate

        out = evaluate(_request(config, line), console)
        terminal.print_result("folder", out, line.views)


def _path(key: str, value: Any) -> Path | None:
    from spade_cli.cli.config.check_values import path

    return None if value is None else path(key, value, "PATH")


def _request(config: dict[str, Any], line: CommandLine) -> Any:
    """Everything that an evaluation was asked for. Raises UserError at the first value that makes no sense."""
    from spade_cli.cli.config.check_values import number, section, switch, whole
    from spade_cli.cli.config.conditions import read_conditions
    from spade_cli.cli.config.settings import MAX_SAMPLES, find_cache, visualization, visualization_traces
    from spade_cli.evaluation.conditions import TraceCondition
    from spade_cli.evaluation.evaluation_plan import BEST, FAMILIES, FIXED, EvaluationRequest
    from spade_cli.evaluation.measures.controls import CONTROLS
    from spade_cli.evaluation.measures.insertion import FILLS

    shared = shared_settings(config, line, "eval")
    pictures = config.get("count")
    conditions = read_conditions(config, line)
    metrics = some_of("metrics", config.get("metrics"), FAMILIES)
    several = visualization_traces(section(config, "interpreter"))
    if "concepts" in metrics or config.get("study") is not None:
        traces = [one for one in conditions.values() if isinstance(one, TraceCondition)]
        wider = {id(one.settings): replace(one.settings, visualization_traces=several) for one in traces}
        conditions = {  # those that had settings in common still do: they share their search
            name: replace(one, settings=wider[id(one.settings)]) if isinstance(one, TraceCondition) else one
            for name, one in conditions.items()
        }
    return EvaluationRequest(
        **shared,
        conditions=conditions,
        visualize=visualization(section(config, "interpreter")),
        cache=find_cache(section(config, "interpreter")),
        metrics=metrics,
        fills=some_of("fills", config.get("fills"), tuple(FILLS)),
        mosaic=switch("mosaic", config.get("mosaic")),
        controls=() if config.get("controls") == [] else some_of("controls", config.get("controls"), tuple(CONTROLS)),
        count=None if pictures is None else whole("count", pictures, 1),
        trojan_share=number("trojan_share", config.get("trojan_share"), 0, 1),
        aggregation=some_of("aggregation", [config.get("aggregation")], (FIXED, BEST))[0],
        held_out=whole("held_out", config.get("held_out"), 1, MAX_SAMPLES),
        reader_pictures=whole("reader_pictures", config.get("reader_pictures"), 1),
        twin=_twin(config.get("twin"), shared["model"]),
        sparse_fc_pictures=whole("sparse_fc_pictures", config.get("sparse_fc_pictures"), 10),
        arguments=line.words,
        settings={**config, **_tables(conditions)},
    )


def _twin(value: Any, model: Any) -> Any:
    """The source of the network before its Trojans were implanted: the same network with other weights."""
    from spade_cli.cli.config.check_values import path

    return None if value is None else replace(model, weights=str(path("twin", value, "WEIGHTS")))


def shared_settings(
    config: dict[str, Any], line: CommandLine, verb: str, without: Collection[str] = ()
) -> dict[str, Any]:
    """What `spade eval` and `spade tune` both take: pictures, network, folder, samples and methods."""
    from spade_cli.cli.config.check_values import device_name, path, section, text, whole
    from spade_cli.cli.config.model import model_source
    from spade_cli.cli.config.settings import saliency_methods, trace_settings

    model = model_source(section(config, "model"), line.choices.get("model"))
    data = text("data", config.get("data"), "world")
    trace = trace_settings(config, line.choices, model.size, without)
    return {
        "data": data if data == "world" else str(path("data", data, "world")),
        "model": model,
        "out": out_folder(config.get("out"), data, verb),
        "trace": trace,
        "saliency": saliency_methods(section(config, "interpreter"), trace.seed, model.size),
        "tolerance": whole("tolerance", config.get("tolerance"), 0, 1000),
        "device": device_name(config.get("device")),
        "command": line.command,
    }


def _tables(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The shares that came from files: the numbers depend on them, not on what a file is called."""
    from spade_cli.evaluation.conditions import TraceCondition

    traces: dict[str, Any] = {name: one for name, one in conditions.items() if isinstance(one, TraceCondition)}
    schedules = {name: one.settings.schedule.keywords for name, one in traces.items()}
    found = {name: keywords["shares"] for name, keywords in schedules.items() if "shares" in keywords}
    return {"tables": found} if found else {}


def out_folder(value: Any, data: str, verb: str) -> Path:
    """`out`, or a new folder in outputs/ that is named after the moment, the command and the data."""
    from spade_cli.cli.config.check_values import path

    if value not in (None, ""):
        return path("out", value, "FOLDER")
    from spade_cli.report.run_folder import free_path

    return free_path(Path("outputs"), f"{verb}-{Path(data).name}")


def some_of(key: str, value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """One name or a list of them, each one known."""
    asked = [value] if isinstance(value, str) else value
    if not isinstance(asked, list) or not asked or any(name not in known for name in asked):
        raise UserError(f"{key}={value} is unknown; there are {', '.join(known)}")
    return tuple(dict.fromkeys(asked))
