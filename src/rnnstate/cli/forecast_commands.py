"""The commands `demo`, `train`, `evaluate`, `predict` and `forecast`."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnnstate.cli.output import Output
from rnnstate.cli.progress import Progress
from rnnstate.errors import DataError
from rnnstate.forecasting import forecast as ahead
from rnnstate.forecasting import plot
from rnnstate.forecasting.continuation import Standing, merged
from rnnstate.forecasting.errors_table import Score, score_table
from rnnstate.forecasting.run_folder import (
    REPORT,
    Run,
    is_complete,
    new_run,
    read_run,
    read_settings,
    run_of,
    save_run,
    update_run,
)
from rnnstate.forecasting.series import Series, read_series
from rnnstate.forecasting.served import Served, prediction_columns, score, serve_table
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.tablefiles import check_free, check_suffix, read_table, write_table
from rnnstate.forecasting.train import CARRIED
from rnnstate.forecasting.train import train as train_model
from rnnstate.messages import counted, quoted
from rnnstate.scale.processes import leave, rank

STANDARD_OUTPUT = Path("-")
DEMO_DATA = "household_power_15min.csv.gz"
DEMO = Settings(targets=("active_kw", "reactive_kvar"), time="time", epochs=100)


@dataclass(frozen=True)
class Source:
    """The data of a command that uses a RUN.

    Args:
        path: The RUN.
        data: The file, `-` for standard input, or `None` if the command runs without data.
        continues: Whether data without times continue from the kept states.
        reading: Fields of `ReadOptions` that replace the options of the RUN.
    """

    path: Path
    data: str | None
    continues: bool
    reading: Mapping[str, Any]


def train(
    settings: Settings,
    data: str,
    out: Path,
    *,
    force: bool,
    command: Sequence[str],
    output: Output,
    json: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
    report: Path | None = None,
) -> None:
    """Train on `data`, leave a RUN at `out`, and show the test errors. Where that was done already, only say so.

    Args:
        settings: Arguments of the training.
        data: The file to train on.
        out: The RUN to make.
        force: Whether to replace a RUN.
        command: The command line, to be kept in the RUN.
        output: Takes the result and the notes.
        json: Whether the result is JSON.
        checkpoint: Folder of checkpoints, which stays.
        resume: Whether to keep checkpoints in a folder next to `out` until the RUN is complete.
        report: The file of the report; `None` for no report. Nothing that goes wrong with it fails the training.

    Of several processes, only rank 0 writes and says something.
    """
    unfinished = out.absolute().with_name(f"{out.name}.checkpoint")
    if (resume or checkpoint) and not force and is_complete(out, settings):
        # A supervisor that starts the same command again must see success.
        output.note(f"{out} is already complete: a training with the same settings wrote it. Nothing was trained.")
        if json:
            kept = out / REPORT if (out / REPORT).is_file() else None
            output.document({"run": str(out), "report": kept and str(kept), **_kept_scores(out)})
        if resume:
            shutil.rmtree(unfinished, ignore_errors=True)
        return
    if rank():
        series = read_series(read_table(data, settings.reading), settings.columns)
        train_model(settings, series, lambda line: None, None, unfinished if resume else checkpoint)
        return
    progress = None if output.quiet else Progress()
    with new_run(out, force) as folder:
        series = read_series(read_table(data, settings.reading), settings.columns)
        trained = train_model(settings, series, output.note, progress, unfinished if resume else checkpoint)
        leave()
        save_run(folder, settings, trained, command)
    if resume:
        shutil.rmtree(unfinished)
    written = None if report is None else _report(report, run_of(out, settings, trained), series, output)
    about = {"run": str(out), "report": written and str(written)}
    _show_scores("Test errors", settings, trained.scores, trained.scored, output, about if json else None)


def _report(path: Path, run: Run, series: Sequence[Series], output: Output) -> Path | None:
    """Write the report about a new RUN; return `None`, and say why, if there is none."""
    from rnnstate.forecasting.looked_at import look_at_series
    from rnnstate.forecasting.report import NO_PICTURES, write_report

    output.note("Writing the report.")
    try:
        looked, reason = look_at_series(run, series), ""
    except DataError as error:
        looked, reason = None, str(error)
    try:
        write_report(path, run, looked, reason)
    except KeyboardInterrupt:
        output.note(f"No report: interrupted. {run.path} is complete.")
        return None
    except Exception as error:  # the RUN is complete, whatever a page about it runs into
        output.note(f"No report: {' '.join(str(error).split()) or type(error).__name__}")
        return None
    if find_spec("matplotlib") is None:
        output.note(NO_PICTURES)
    return path


def demo(
    out: Path | None,
    epochs: int | None,
    *,
    force: bool,
    command: Sequence[str],
    output: Output,
    json: bool,
    report: Path | None,
) -> None:
    """Train on the household power data of this package. Without `out`, the RUN is removed afterwards."""
    settings = DEMO if epochs is None else replace(DEMO, epochs=epochs)
    output.note("Data of one household near Paris: mean electric power of each 15 minutes, 2006 to 2010, measured.")
    if _backend() == "torch":
        output.note("On PyTorch this takes many minutes, on JAX half a minute. For a first look: --epochs 1.")
    with as_file(files("rnnstate") / "data" / DEMO_DATA) as data, _place_of(out) as path:
        train(settings, str(data), path, force=force, command=command, output=output, json=json, report=report)


@contextmanager
def _place_of(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="rnnstate-demo-") as folder:
        yield Path(folder) / "RUN"


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


def report_of_demo(out: Path | None, *, force: bool, output: Output) -> Path | None:
    """Return where the demo writes its report: into its RUN, or into the current folder if it keeps none."""
    path = Path(f"rnnstate-demo{Path(REPORT).suffix}") if out is None else out / REPORT
    if out is None:
        try:
            check_free(path, force)
        except DataError as error:
            output.note(f"No report: {error}")
            return None
    return path


def name_report(path: Path | None, output: Output) -> None:
    """Say where the report is, if it was written."""
    if path is not None and path.is_file():
        output.note(f"The report is in {path}.")


def next_steps(out: Path, output: Output) -> None:
    """Say which commands use a new RUN."""
    output.note("")
    output.note(f"RUN is in {out}. Next:")
    output.note(f"  rnnstate predict {out} NEWER.csv -o FORECAST.csv")
    output.note(f"  rnnstate forecast {out}")
    output.note(f"  rnnstate inspect {out}")


def evaluate(source: Source, output: Output, *, json: bool) -> None:
    """Show the errors of a RUN on all rows of the data."""
    run, served = _serve(source, output)
    scores, scored = score(run, served)
    about = {"run": str(run.path), "continued": served.starts.continued, "fresh": served.starts.reasons}
    _show_scores("Errors", run.settings, scores, scored, output, about if json else None)


def predict(source: Source, out: Path, output: Output, *, force: bool, update: bool) -> None:
    """Write predictions for each row of the data. They continue from the states that a RUN keeps for its keys.

    Args:
        source: The RUN and the data.
        out: The file to write; `-` is standard output, as CSV.
        output: Takes the notes.
        force: Whether to replace `out`.
        update: Whether the RUN keeps where the keys stand afterwards. The predictions are written first, so an
            interrupted command can be run again.
    """
    _check_output(out, force, source.data)
    run, served = _serve(source, output, update)
    _write(out, prediction_columns(run.settings, served), force)
    empty = len(served.table) - served.filled
    gaps = f"; {counted(empty, 'row')} left empty, where the data have a gap" if empty else ""
    output.note(f"Wrote {_shown(out)}: {counted(served.filled, 'prediction')}{gaps}.")
    if update:
        update_run(run, merged(run.end, served.standing))
        output.note(f"Updated {run.path}: the next data continue from here.")


def forecast(
    source: Source,
    out: Path,
    output: Output,
    *,
    steps: int | None,
    hold: bool,
    plot_path: Path | None,
    force: bool,
) -> None:
    """Write predictions for the steps after the data, or after the place where the RUN stands.

    Args:
        source: The RUN, and the data that come before the forecast.
        out: The file to write; `-` is standard output, as CSV.
        output: Takes the notes.
        steps: How many steps.
        hold: Whether inputs that are no targets keep their last values.
        plot_path: Picture to draw.
        force: Whether to replace files.
    """
    _check_output(out, force, source.data)
    if plot_path is not None:
        check_free(plot_path, force)
        plot.check_plot(plot_path)
    ahead.check_request(read_settings(source.path), steps, hold)
    run, served = (read_run(source.path), None) if source.data is None else _serve(source, output)
    standing: Standing = run.end if served is None else served.standing
    result = ahead.forecast(run, standing, steps, hold=hold)
    if result.left_out:
        output.note(ahead.about_left_out(result.left_out))
    layout = source.reading.get("time_format", run.settings.time_format)
    columns = ahead.forecast_columns(run.settings, result, text=out.suffix != ".parquet", layout=layout)
    _write(out, columns, force)
    keys = f" for each of {counted(len(result.keys), 'key')}" if run.settings.key else ""
    output.note(f"Wrote {_shown(out)}: {counted(result.targets.shape[1], 'step')}{keys}.")
    if plot_path is not None:
        plot.draw_forecast(plot_path, run.settings, result, [] if served is None else served.series)
        output.note(f"Wrote {plot_path}.")


def _serve(source: Source, output: Output, update: bool = False) -> tuple[Run, Served]:
    """Run the data through the model of the RUN. Cheap checks come before the model is loaded."""
    settings = read_settings(source.path)
    table = read_table(str(source.data), replace(settings.reading, **source.reading))
    run = read_run(source.path)
    served = serve_table(run, table, continues=source.continues, update=update)
    output.note(_about_starts(run, served))
    return run, served


def _check_output(out: Path, force: bool, data: str | None) -> None:
    if out == STANDARD_OUTPUT:
        return
    check_suffix(out)
    check_free(out, force)
    if data not in (None, "-") and out.exists() and Path(str(data)).exists() and out.samefile(str(data)):
        raise DataError(f"The output must be another file than DATA. Received: {out} for both. Give another name.")


def _write(out: Path, columns: Mapping[str, Any], force: bool) -> None:
    if out != STANDARD_OUTPUT:
        write_table(out, columns, force=force)
        return
    with tempfile.TemporaryDirectory(prefix="rnnstate-") as folder:
        file = Path(folder) / "table.csv"
        write_table(file, columns)
        sys.stdout.flush()
        with file.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _shown(out: Path) -> str:
    return "standard output" if out == STANDARD_OUTPUT else str(out)


def _about_starts(run: Run, served: Served) -> str:
    starts = served.starts
    if run.settings.key is None:
        reason = starts.reasons.get(served.series[0].key)
        since = f", which end at {run.end.places[0].time}" if run.end.places[0].time else ""
        return (
            f"Starts fresh: {reason}."
            if reason
            else f"Continues from the kept state: DATA follow the kept data{since}."
        )
    fresh = [f"`{key}` ({reason})" for key, reason in starts.reasons.items()]
    shown = ", ".join(fresh[:3]) + (f", ... ({len(fresh)} in all)" if len(fresh) > 3 else "")
    verb = "continues" if starts.continued == 1 else "continue"
    start = "starts" if len(fresh) == 1 else "start"
    line = f"{counted(starts.continued, 'key')} {verb} from the kept states; {len(fresh)} {start} fresh"
    return f"{line}: {shown}." if fresh else f"{line}."


def _kept_scores(path: Path) -> dict[str, Any]:
    from rnnstate.forecasting.run_folder import read_info

    test = read_info(path)["test"]
    return {"horizon": read_settings(path).horizon, "predictions": test["rows"], "scores": test["errors"]}


def _show_scores(
    title: str,
    settings: Settings,
    scores: Sequence[Score],
    scored: int,
    output: Output,
    about: Mapping[str, Any] | None,
) -> None:
    """Show errors as a table, or as JSON with the facts `about` them."""
    if about is not None:
        found = {"horizon": settings.horizon, "predictions": scored, "scores": [asdict(one) for one in scores]}
        output.document({**about, **found})
        return
    output.note("")
    if not scores:
        output.result(["No row has a known target to compare with: no table of errors."])
        return
    output.result([f"{title}, {counted(settings.horizon, 'step')} ahead ({counted(scored, 'prediction')}):"])
    output.result(score_table(scores))
    behind = [s.target for s in scores if s.served == CARRIED and s.ratio is not None and s.ratio > 1]
    if behind:
        output.note(f"Persistence is better for {quoted(behind)}. More --epochs, layers or features may help.")
