"""What each command of the command line does. Nothing is printed here: `say` takes each line."""

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.continuation import Starts, find_starts
from rnnstate.forecasting.errors_table import score_table
from rnnstate.forecasting.folder import new_run
from rnnstate.forecasting.predict import advance
from rnnstate.forecasting.run_folder import Run, load_run, read_info, save_run
from rnnstate.forecasting.series import Series, read_series
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.tablefiles import check_free, read_table, write_table
from rnnstate.forecasting.tables import Table
from rnnstate.forecasting.train import CARRIED, Say, judge
from rnnstate.forecasting.train import train as train_model
from rnnstate.messages import counted, quoted

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
    """Train on `data` and leave a RUN at `out`; with `resume`, checkpoints are beside it until it is complete."""
    beside = out.absolute().with_name(f"{out.name}.checkpoint")
    with new_run(out, force) as folder:
        series = read_series(read_table(data), settings.columns)
        trained = train_model(settings, series, say, verbose, beside if resume else checkpoint)
        save_run(folder, settings, trained, command)
    if resume:
        shutil.rmtree(beside)
    title = f"Test errors, {counted(settings.horizon, 'step')} ahead ({counted(trained.scored, 'prediction')})"
    _say_scores(title, trained.scores, say)


def demo(
    out: Path | None, epochs: int | None, *, force: bool, verbose: int | str, command: Sequence[str], say: Say
) -> None:
    """Train on the household power data of this package; RUN goes again unless `out` is given."""
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
    """Say what can be done with a new RUN."""
    say("")
    say(f"RUN is in {out}. Next:")
    say(f"  rnnstate predict {out} NEWER.csv -o FORECAST.csv")
    say(f"  rnnstate inspect {out}")


def evaluate(path: Path, data: str, *, always: bool, say: Say) -> None:
    """Score the model of a RUN on all rows of `data`."""
    run, _, series, starts = _run_on(path, data, always)
    _say_starts(run, series, starts, say)
    outputs, _ = advance(run.model, series, run.scaling, starts=starts)
    scores, scored = judge(run.model, series, run.scaling, run.settings, outputs, [0] * len(series))
    title = f"Errors, {counted(run.settings.horizon, 'step')} ahead ({counted(scored, 'prediction')})"
    _say_scores(title, scores, say)


def predict(path: Path, data: str, out: Path, *, always: bool, force: bool, say: Say) -> None:
    """Write predictions for each row of `data`, continuing from where the keys of a RUN stand."""
    check_free(out, force)
    run, table, series, starts = _run_on(path, data, always)
    _say_starts(run, series, starts, say)
    outputs, _ = advance(run.model, series, run.scaling, starts=starts)
    write_table(out, _prediction_columns(run.settings, table, series, outputs), force=force)
    filled = sum(int(np.isfinite(one[:, 0]).sum()) for one in outputs)
    empty = len(table) - filled
    gaps = f"; {counted(empty, 'row')} left empty, where the data have a gap" if empty else ""
    say(f"Wrote {out}: {counted(filled, 'prediction')}{gaps}.")


def _run_on(path: Path, data: str, always: bool) -> tuple[Run, Table, list[Series], Starts]:
    """Load a RUN and the data it is to go on with; what is cheap to check comes first."""
    read_info(path)
    table = read_table(data)
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
