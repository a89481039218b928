"""The commands `plot` and `report`: pictures of a RUN, one by one or all in one page."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from rnnstate.cli.arguments import parse
from rnnstate.cli.forecast_commands import DEMO_DATA, Source
from rnnstate.cli.output import Output
from rnnstate.durable import replacing
from rnnstate.errors import DataError
from rnnstate.forecasting import plot as forecast_plot
from rnnstate.forecasting.looked_at import Looked, look_at
from rnnstate.forecasting.run_folder import Run, read_info, read_run, read_settings
from rnnstate.forecasting.tablefiles import check_free, read_table

_GIVE = "Name the file: rnnstate"


def plot(source: Source, what: str, out: Path, output: Output, *, force: bool) -> None:
    """Draw one picture of a RUN.

    Args:
        source: The RUN and its data.
        what: The name of the picture.
        out: The file to write.
        output: Takes the notes.
        force: Whether to replace `out`.
    """
    check_free(out, force)
    forecast_plot.check_plot(out)
    from rnnstate.forecasting.run_plots import PLOTS, draw_training

    if what == "training":
        figure = draw_training(read_run(source.path).history)
    else:
        with _data(source, f"plot RUN DATA --what {what}") as data:
            looked = _look(source, data, output)
        figure = PLOTS[what](looked)
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:], dpi=130)
    output.note(f"Wrote {out}.")


def report(source: Source, out: Path | None, output: Output, *, force: bool, json: bool) -> None:
    """Write the report about a RUN.

    Args:
        source: The RUN and its data.
        out: The file to write. The default is the name of the RUN with `.html`.
        output: Takes the result and the notes.
        force: Whether to replace `out`.
        json: Whether to print path and health as JSON.
    """
    read_info(source.path)
    out = out or source.path.absolute().with_name(f"{source.path.absolute().name}.html")
    if out.suffix != ".html":
        raise DataError(f"The report must end in .html. Received: {out}.")
    check_free(out, force)
    from rnnstate.forecasting.report import NO_PICTURES, write_report

    run, looked, reason = _with_data(source, output)
    made = write_report(out, run, looked, reason)
    for name, why in made.left_out.items():
        output.note(f"Left out {name}: {why}")
    if find_spec("matplotlib") is None:
        output.note(NO_PICTURES)
    if json:
        health = None if made.health is None else made.health.to_json()
        output.document({"report": str(out), "health": health, "left_out": made.left_out})
    elif made.health is not None:
        output.result([str(made.health)])
    output.note(f"Wrote {out}.")


def _with_data(source: Source, output: Output) -> tuple[Run, Looked | None, str]:
    """Return the RUN with its data, or the reason why there are no data. A RUN without data still gets a report."""
    if source.data is None:
        try:
            with _data(source, "report RUN DATA") as data:
                looked = _look(source, data, output)
        except DataError as error:
            output.note(f"Parts that need the data are left out. {error}")
            return read_run(source.path), None, str(error)
    else:
        looked = _look(source, source.data, output)
    return looked.run, looked, ""


def _look(source: Source, data: str, output: Output) -> Looked:
    settings = read_settings(source.path)
    table = read_table(data, replace(settings.reading, **source.reading))
    looked = look_at(read_run(source.path), table)
    output.note(f"Looks at {looked.part} of {data}.")
    return looked


@contextmanager
def _data(source: Source, usage: str) -> Iterator[str]:
    """Give the file of the data: the given one, or the one that the RUN was trained on.

    Raises:
        DataError: If the RUN was trained on standard input, or the file has gone.
    """
    if source.data is not None:
        yield source.data
        return
    command = list(read_info(source.path)["command"])[1:]
    with ExitStack() as stack:
        if command[:1] == ["demo"]:
            yield str(stack.enter_context(as_file(files("rnnstate") / "data" / DEMO_DATA)))
            return
        try:
            file = parse(command).data
        except SystemExit as stop:
            raise DataError(f"RUN must name its data. Received: {' '.join(command)}. {_GIVE} {usage}") from stop
        if file == "-" or not Path(file).is_file():
            raise DataError(
                f"DATA must be given if the file of the training cannot be read. Received: none, and {file} is no file "
                f"here. {_GIVE} {usage}"
            )
        yield file
