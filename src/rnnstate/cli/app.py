"""The entry point of the command line: it parses the arguments, runs a command, and returns an exit status.

Exit status: 0 done; 1 an error, in one line on standard error; 2 wrong usage; 130 interrupted.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rnnstate.cli.arguments import parse
from rnnstate.errors import KeyWarning, RnnStateError

say = partial(print, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(given)
    options.given = ["rnnstate", *given]
    # TensorFlow and JAX's absl read this variable: 2 hides their start-up messages and keeps their errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", KeyWarning)
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        resumable = getattr(options, "resume", False) or getattr(options, "checkpoint", None)
        left = "the same command goes on from the last checkpoint" if resumable else "nothing was kept"
        return _fail(f"Interrupted: {left}.", 130)
    except BrokenPipeError:
        # The reader of the output is gone. Without this line Python would report it once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RnnStateError, OSError) as error:
        return _fail(f"Error: {error}")
    except Exception as error:
        if os.environ.get("RNNSTATE_TRACEBACK"):
            raise
        return _fail(f"Error: {type(error).__name__}: {error} Set RNNSTATE_TRACEBACK=1 to see where.")


def _demo(options: argparse.Namespace) -> int:
    from rnnstate.cli import forecast_commands as commands

    commands.demo(options.out, options.epochs, **_output(options))
    if options.out is not None:
        commands.next_steps(options.out, say)
    return 0


def _train(options: argparse.Namespace) -> int:
    from rnnstate.cli import forecast_commands as commands
    from rnnstate.forecasting.settings import Settings

    names = ("key", "time", "horizon", "window", "layers", "epochs", "batch_size", "learning_rate", "split", "seed")
    settings = Settings(
        targets=tuple(options.target),
        features=tuple(options.feature),
        **{name: getattr(options, name) for name in names},
        **_reading(options),
    )
    keep = {"checkpoint": options.checkpoint, "resume": options.resume}
    commands.train(settings, options.data, options.out, **keep, **_output(options))
    commands.next_steps(options.out, say)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from rnnstate.cli import forecast_commands as commands

    commands.evaluate(options.path, options.data, always=options.always, reading=_reading(options), say=say)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from rnnstate.cli import forecast_commands as commands

    # Where the predictions go to standard output, the notes must not.
    tell = partial(_note, False) if options.out == commands.STANDARD_OUTPUT else say
    flags = {"always": options.always, "force": options.force}
    commands.predict(options.path, options.data, options.out, **flags, reading=_reading(options), say=tell)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from rnnstate.cli.state_commands import SUFFIXES, describe_state

    if options.path.suffix in SUFFIXES:
        lines = describe_state(options.path)
    else:
        from rnnstate.cli.model_commands import describe

        lines = describe(options.path)
    for line in lines:
        say(line)
    return 0


def _audit(options: argparse.Namespace) -> int:
    from rnnstate.cli.model_commands import findings

    lines, failed = findings(options.path)
    for line in lines:
        say(line)
    return int(failed)


def _convert(options: argparse.Namespace) -> int:
    from rnnstate.cli.state_commands import convert_state

    state = convert_state(options.source, options.target, options.force)
    say(f"Wrote {options.target}: {len(state)} leaves of {state.batch_size} rows.")
    return 0


def _diff(options: argparse.Namespace) -> int:
    from rnnstate.cli.state_commands import diff_states

    lines, differs = diff_states(options.one, options.other)
    for line in lines:
        say(line)
    return int(differs)


def _export(options: argparse.Namespace) -> int:
    from rnnstate.cli.model_commands import export_model

    done = export_model(options.path, options.out, options.format, options.time, options.force, options.scaled)
    say(f"Wrote {done.path} and {done.manifest_path}: at most {done.largest_difference:.1e} from the model.")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from rnnstate.cli import bench_command

    if options.list:
        bench_command.list_contenders(options.task, say)
        return 0
    bench_command.bench(
        options.task,
        options.units,
        {name: getattr(options, name) for name in ("batch", "features", "window", "layers")},
        options.contenders,
        **{name: getattr(options, name) for name in ("rounds", "seconds", "quick", "force")},
        json_path=options.json,
        plot_path=options.plot,
        say=say,
        note=partial(_note, options.quiet),
    )
    return 0


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the given options that say how DATA are written."""
    names = ("decimal", "na", "time_format", "encoding", "sort")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {name: tuple(value) if name == "na" else value for name, value in given.items()}


def _note(quiet: bool, text: str) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def _show_warning(otherwise: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning about DATA in one line, and any other warning as Python does."""
    if issubclass(category, KeyWarning):
        _fail(f"Warning: {message}")
    else:
        otherwise(message, category, *place)


def _output(options: argparse.Namespace) -> dict[str, Any]:
    verbose = 0 if options.quiet else 1 if sys.stdout.isatty() else 2
    return {"force": options.force, "verbose": verbose, "command": options.given, "say": say}


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "demo": _demo,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "inspect": _inspect,
    "audit": _audit,
    "convert": _convert,
    "diff": _diff,
    "export": _export,
    "bench": _bench,
}


def _fail(text: str, status: int = 1) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return status
