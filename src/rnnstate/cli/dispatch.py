"""From the options of each command to the call that runs it. Each function returns the exit status of its command."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rnnstate.cli.output import Output
from rnnstate.messages import counted


def _demo(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import forecast_commands as commands

    wanted = not options.no_report
    report = commands.report_of_demo(options.out, force=options.force, output=output) if wanted else None
    shown = {"command": options.given, "output": output, "json": options.json}
    commands.demo(options.out, options.epochs, force=options.force, report=report, **shown)
    if options.out is not None:
        commands.next_steps(options.out, output)
    commands.name_report(report, output)
    return 0


def _train(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import forecast_commands as commands
    from rnnstate.cli.processes import run_in_processes
    from rnnstate.forecasting.run_folder import REPORT
    from rnnstate.forecasting.settings import Settings
    from rnnstate.scale import rank

    names = ("key", "time", "horizon", "window", "layers", "epochs", "batch_size", "learning_rate", "split", "seed")
    settings = Settings(
        targets=tuple(options.target),
        features=tuple(options.feature),
        **{name: getattr(options, name) for name in names},
        **_reading(options),
    )
    if (status := run_in_processes(options.processes, options.data, options.given)) is not None:
        return status
    keep = {"checkpoint": options.checkpoint, "resume": options.resume, "force": options.force}
    shown = {"command": options.given, "output": output, "json": options.json}
    report = None if options.no_report else options.out / REPORT
    commands.train(settings, options.data, options.out, report=report, **keep, **shown)
    if not rank():
        commands.next_steps(options.out, output)
        commands.name_report(report, output)
    return 0


def _evaluate(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import forecast_commands as commands

    commands.evaluate(_source(options), output, json=options.json)
    return 0


def _predict(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import forecast_commands as commands

    commands.predict(_source(options), options.out, output, force=options.force, update=options.update)
    return 0


def _forecast(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import forecast_commands as commands

    chosen = {"steps": options.steps, "hold": options.hold, "plot_path": options.plot, "force": options.force}
    commands.forecast(_source(options), options.out, output, **chosen)
    return 0


def _inspect(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.state_commands import SUFFIXES, describe_state, state_facts

    if options.path.suffix in SUFFIXES:
        facts, describe = state_facts, describe_state
    else:
        from rnnstate.cli import model_commands

        facts, describe = model_commands.facts, model_commands.describe
    if options.json:
        output.document(facts(options.path))
    else:
        output.result(describe(options.path))
    return 0


def _audit(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.model_commands import findings

    found = findings(options.path)
    if options.json:
        output.document({"findings": [asdict(finding) for finding in found]})
    else:
        output.result([str(finding) for finding in found] or ["Nothing to report."])
    return int(any(finding.level == "error" for finding in found))


def _plot(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import look_commands as commands

    commands.plot(_source(options), options.what, options.out, output, force=options.force)
    return 0


def _report(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import look_commands as commands

    commands.report(_source(options), options.out, output, force=options.force, json=options.json)
    return 0


def _convert(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.state_commands import convert_state

    state = convert_state(options.source, options.target, options.force)
    size = f"{counted(len(state), 'leaf', 'leaves')} of {counted(state.batch_size, 'row')}"
    output.note(f"Wrote {options.target}: {size}.")
    return 0


def _diff(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.state_commands import diff_states, differences

    if options.json:
        found = differences(options.one, options.other)
        output.document({"equal": not found, "differences": found})
        return int(bool(found))
    lines, differs = diff_states(options.one, options.other)
    output.result(lines)
    return int(differs)


def _export(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.model_commands import export_model

    done = export_model(options.path, options.out, options.format, options.time, options.force, options.scaled)
    output.note(f"Wrote {done.path} and {done.manifest_path}: at most {done.largest_difference:.1e} from the model.")
    return 0


def _serve(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.serve_command import serve

    serve(options, output)
    return 0


def _sessions(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.sessions_command import sessions

    sessions(options, output)
    return 0


def _bench(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli import bench_command

    if options.list:
        bench_command.list_contenders(options.task, _say(output))
        return 0
    bench_command.bench(
        options.task,
        options.units,
        {name: getattr(options, name) for name in ("batch", "features", "window", "layers")},
        options.contenders,
        **{name: getattr(options, name) for name in ("rounds", "seconds", "quick", "force")},
        json_path=options.json,
        plot_path=options.plot,
        say=_say(output),
        note=output.note,
    )
    return 0


def _completion(options: argparse.Namespace, output: Output) -> int:
    from rnnstate.cli.arguments import build_parser
    from rnnstate.cli.completion import script

    output.result(script(options.shell, build_parser()).splitlines())
    return 0


def _say(output: Output) -> Callable[[str], None]:
    return lambda line: output.result([line])


def _source(options: argparse.Namespace) -> Any:
    from rnnstate.cli.forecast_commands import Source

    return Source(options.path, options.data, options.always, _reading(options))


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the given options that say how DATA are written."""
    names = ("decimal", "na", "time_format", "encoding", "sort")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {name: tuple(value) if name == "na" else value for name, value in given.items()}


COMMANDS: dict[str, Callable[[argparse.Namespace, Output], int]] = {
    "demo": _demo,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "forecast": _forecast,
    "inspect": _inspect,
    "audit": _audit,
    "plot": _plot,
    "report": _report,
    "convert": _convert,
    "diff": _diff,
    "export": _export,
    "serve": _serve,
    "sessions": _sessions,
    "bench": _bench,
    "completion": _completion,
}
