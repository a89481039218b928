"""The commands `demo`, `train`, `predict` and `evaluate`. They hand each line to `say`; only `predict -o -` prints."""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.continuation import Starts, find_starts
from rnnstate.forecasting.errors_table import score_table
from rnnstate.forecasting.predict import advance
from rnnstate.forecasting.run_folder import Run, is_complete, load_run, new_run, read_settings, save_run
from rnnstate.forecasting.series import Series, read_series
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.tablefiles import check_free, read_table, write_table
from rnnstate.forecasting.tables import Table
from rnnstate.forecasting.train import CARRIED, Say, judge
from rnnstate.forecasting.train import train as train_model
from rnnstate.messages import counted, quoted

STANDARD_OUTPUT = Path("-")
DEMO_DATA = "household_power_15min.csv.gz"
DEMO = Settings(targets=("active_kw", "reactive_kvar"), time="time", epochs=100)


def train(
    settings: Settings,
    data: str,
    out: Path,
    *,
    force: bool,
    verbose: int | str,
    command: Sequence[str],
    say: Say,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> None:
    """Train on `data` and leave a RUN at `out`. Where that was done already, only say so.

    Args:
        settings: Arguments of the training.
        data: The file to train on.
        out: The RUN to make.
        force: Whether to replace a RUN.
        verbose: How Keras shows the progress.
        command: The command line, to be kept in the RUN.
        say: Takes each line of output.
        checkpoint: Folder of checkpoints, which stays.
        resume: Whether to keep checkpoints in a folder next to `out` until the RUN is complete.
    """
    unfinished = out.absolute().with_name(f"{out.name}.checkpoint")
    if (resume or checkpoint) and not force and is_complete(out, settings):
        # A supervisor that starts the same command again must see success.
        say(f"{out} is already complete: a training with the same settings wrote it. Nothing was trained.")
        if resume:
            shutil.rmtree(unfinished, ignore_errors=True)
        return
    with new_run(out, force) as folder:
        series = read_series(read_table(data, settings.reading), settings.columns)
        trained = train_model(settings, series, say, verbose, unfinished if resume else checkpoint)
        save_run(folder, settings, trained, command)
    if resume:
        shutil.rmtree(unfinished)
    title = f"Test errors, {counted(settings.horizon, 'step')} ahead ({counted(trained.scored, 'prediction')})"
    _say_scores(title, trained.scores, say)


def demo(
    out: Path | None, epochs: int | None, *, force: bool, verbose: int | str, command: Sequence[str], say: Say
) -> None:
    """Train on the household power data of this package. Without `out`, the RUN is removed afterwards."""
    settings = DEMO if epochs is None else replace(DEMO, epochs=epochs)
    say("Data of one household near Paris: mean electric power of each 15 minutes, 2006 to 2010, measured.")
    if _backend() == "torch":
        say("On PyTorch this takes many minutes, on JAX half a minute. For a first look: --epochs 1.")
    with as_file(files("rnnstate") / "data" / DEMO_DATA) as data, ExitStack() as stack:
        path = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rnnstate-demo-"))) / "RUN"
        train(settings, str(data), path, force=force, verbose=verbose, command=command, say=say)


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


def next_steps(out: Path, say: Say) -> None:
    """Say which commands use a new RUN."""
    say("")
    say(f"RUN is in {out}. Next:")
    say(f"  rnnstate predict {out} NEWER.csv -o FORECAST.csv")
    say(f"  rnnstate inspect {out}")


def evaluate(path: Path, data: str, *, always: bool, reading: Mapping[str, Any], say: Say) -> None:
    """Score the model of a RUN on all rows of `data`."""
    run, _, series, starts = _run_on(path, data, always, reading)
    _say_starts(run, series, starts, say)
    outputs, _ = advance(run.model, series, run.scaling, starts=starts)
    scores, scored = judge(run.model, series, run.scaling, run.settings, outputs, [0] * len(series))
    title = f"Errors, {counted(run.settings.horizon, 'step')} ahead ({counted(scored, 'prediction')})"
    _say_scores(title, scores, say)


def predict(
    path: Path, data: str, out: Path, *, always: bool, force: bool, reading: Mapping[str, Any], say: Say
) -> None:
    """Write predictions for each row of `data`. They continue from the states that a RUN keeps for its keys.

    Args:
        path: The RUN.
        data: The file to predict for.
        out: The file to write; `-` is standard output, as CSV.
        always: Whether data without times continue from the kept states.
        force: Whether to replace `out`.
        reading: Fields of `ReadOptions` that replace the options of the RUN.
        say: Takes each line about the predictions.
    """
    if out != STANDARD_OUTPUT:
        check_free(out, force)
    run, table, series, starts = _run_on(path, data, always, reading)
    _say_starts(run, series, starts, say)
    outputs, _ = advance(run.model, series, run.scaling, starts=starts)
    columns = _prediction_columns(run.settings, table, series, outputs)
    if out == STANDARD_OUTPUT:
        _print_table(columns)
    else:
        write_table(out, columns, force=force)
    filled = sum(int(np.isfinite(one[:, 0]).sum()) for one in outputs)
    empty = len(table) - filled
    gaps = f"; {counted(empty, 'row')} left empty, where the data have a gap" if empty else ""
    say(f"Wrote {'standard output' if out == STANDARD_OUTPUT else out}: {counted(filled, 'prediction')}{gaps}.")


def _print_table(columns: Mapping[str, Any]) -> None:
    """Write columns as CSV to standard output."""
    with tempfile.TemporaryDirectory(prefix="rnnstate-predict-") as folder:
        file = Path(folder) / "predictions.csv"
        write_table(file, columns)
        sys.stdout.flush()
        with file.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _run_on(path: Path, data: str, always: bool, reading: Mapping[str, Any]) -> tuple[Run, Table, list[Series], Starts]:
    """Load a RUN and data for it. Cheap checks come before the model is loaded."""
    settings = read_settings(path)
    table = read_table(data, replace(settings.reading, **reading))
    run = load_run(path)
    series = read_series(table, run.settings.columns, run.end.steps)
    return run, table, series, find_starts(series, run.end, always)


def _prediction_columns(
    settings: Settings, table: Table, series: Sequence[Series], outputs: Iterable[Any]
) -> dict[str, Any]:
    values = np.full((len(table), len(settings.targets)), np.nan)
    for one, output in zip(series, outputs, strict=True):
        values[one.rows] = output
    names = [name for name in (settings.key, settings.time) if name is not None]
    columns: dict[str, Any] = {name: table.cells(name) for name in names}
    for index, target in enumerate(settings.targets):
        name = f"{target}_in_{settings.horizon}"
        if name in columns:
            raise DataError(f"The columns of the output must differ. Received: `{name}` twice. Rename it in DATA.")
        columns[name] = values[:, index]
    return columns


def _say_starts(run: Run, series: Sequence[Series], starts: Starts, say: Say) -> None:
    if run.settings.key is None:
        reason = starts.reasons.get(series[0].key)
        since = f", which end at {run.end.places[0].time}" if run.end.places[0].time else ""
        say(
            f"Starts fresh: {reason}."
            if reason
            else f"Continues from the kept state: DATA follow the kept data{since}."
        )
        return
    fresh = [f"`{key}` ({reason})" for key, reason in starts.reasons.items()]
    shown = ", ".join(fresh[:3]) + (f", ... ({len(fresh)} in all)" if len(fresh) > 3 else "")
    verb = "continues" if starts.continued == 1 else "continue"
    start = "starts" if len(fresh) == 1 else "start"
    line = f"{counted(starts.continued, 'key')} {verb} from the kept states; {len(fresh)} {start} fresh"
    say(f"{line}: {shown}." if fresh else f"{line}.")


def _say_scores(title: str, scores: Sequence[Any], say: Say) -> None:
    say("")
    if not scores:
        say("No row has a known target to compare with: no table of errors.")
        return
    say(f"{title}:")
    for line in score_table(scores):
        say(line)
    behind = [s.target for s in scores if s.served == CARRIED and s.ratio is not None and s.ratio > 1]
    if behind:
        say(f"Persistence is better for {quoted(behind)}. More --epochs, layers or features may help.")
