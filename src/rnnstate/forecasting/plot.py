"""The plot of a forecast: a panel for each target, with the last known values and the forecast of each key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.durable import replacing
from rnnstate.errors import DataError
from rnnstate.forecasting.forecast import Forecast
from rnnstate.forecasting.series import Series
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.times import Kind

SUFFIXES = (".svg", ".png", ".pdf")
# A plot of more keys is hard to read.
_KEYS = 8
# The plot shows this many known steps for each step of the forecast.
_PAST = 4


def check_plot(path: Path) -> None:
    """Raise if a plot cannot be drawn there.

    Raises:
        DataError: If the suffix is unknown, or matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"The plot must end in {', '.join(SUFFIXES)}. Received: {path}.")
    _pyplot()


def draw_forecast(path: Path, settings: Settings, result: Forecast, series: Sequence[Series]) -> None:
    """Draw a forecast into a file, which appears whole or not at all.

    Args:
        path: The file.
        settings: Arguments of the training.
        result: The forecast. The plot shows its first eight keys.
        series: The data before it, if they are known.
    """
    pyplot = _pyplot()
    figure, panels = pyplot.subplots(len(settings.targets), 1, figsize=(9, 3.2 * len(settings.targets)), squeeze=False)
    past = {one.key: one for one in series}
    for column, target in enumerate(settings.targets):
        panel = panels[column, 0]
        for row, key in enumerate(result.keys[:_KEYS]):
            _draw_key(panel, result, row, column, past.get(key))
        panel.set(title=target, xlabel=settings.time or "step")
        if settings.key is not None:
            panel.legend(frameon=False, title=settings.key)
    figure.autofmt_xdate()
    figure.tight_layout()
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:])
    finally:
        pyplot.close(figure)


def _draw_key(panel: Any, result: Forecast, row: int, column: int, past: Series | None) -> None:
    y = result.targets[row, :, column]
    steps = np.arange(1, len(y) + 1) if result.ticks is None else _places(result.ticks[row], result.kind)
    label = result.keys[row].replace("$", r"\$").lstrip("_") or "forecast"
    (line,) = panel.plot(steps, y, linestyle="--", marker="." if len(y) < 2 else "", label=label)
    if past is None or not len(past.spans):
        return
    stop = int(past.spans[-1, 1])
    start = max(stop - _PAST * len(y), 0)
    x = np.arange(start, stop) - stop + 1 if past.ticks is None else _places(past.ticks[start:stop], past.kind)
    panel.plot(x, past.values[start:stop, column], color=line.get_color())


def _places(ticks: Any, kind: Kind | None) -> Any:
    """Return times as matplotlib takes them."""
    if kind != "date":
        return ticks
    dates = np.full(len(ticks), np.datetime64("NaT", "us"))
    known = ~np.isnan(ticks)
    dates[known] = np.rint(ticks[known] * 1e6).astype(np.int64).astype("datetime64[us]")
    return dates


def _pyplot() -> Any:
    try:
        import matplotlib
        from matplotlib import pyplot
    except ImportError as error:
        raise DataError(
            'Plots need matplotlib. Received: no such package. Run `pip install "rnnstate[plot]"`.'
        ) from error
    matplotlib.use("agg")
    return pyplot
