"""Predictions against the truth, one panel for each sequence."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.plots.canvas import BLUE, FAINT, INK, VERMILION, add_legend, mark_windows, new_figure, shown

_PANELS = 4


def forecast(
    truth: Any,
    prediction: Any,
    *,
    column: int = 0,
    steps: int = 200,
    length: int | None = None,
    unit: str = "",
    name: str = "value",
) -> Any:
    """Draw predictions over the truth.

    Args:
        truth: The true values, an array `(time,)` or `(time, columns)`, or a mapping of such by key.
        prediction: The predictions, in the same form, as `model.predict` returns them.
        column: Which column to draw.
        steps: How many of the last steps to show.
        length: Steps of a window, to mark where windows begin.
        unit: The unit of the values, for the label.
        name: What the values are, for the label.

    Returns:
        A `matplotlib.figure.Figure` with a panel for each of the first four sequences.

    Raises:
        DataError: If truth and predictions have different keys or lengths, or matplotlib is not installed.

    Example:

    >>> wave = np.sin(np.arange(60) / 5)
    >>> figure = forecast({"north": wave}, {"north": wave + 0.1}, unit="kW")
    >>> figure.axes[0].get_ylabel()
    'value (kW)'
    """
    true, predicted = (data if isinstance(data, Mapping) else {"": data} for data in (truth, prediction))
    keys = [key for key in predicted if key in true][:_PANELS]
    if not keys or len(true) != len(predicted):
        raise DataError(
            f"`truth` and `prediction` must have the same keys. Received: {len(true)} and {len(predicted)} sequences, "
            f"{len(keys)} of them in both."
        )
    figure, panels = new_figure(len(keys), height=0.9 + 2.1 * len(keys))
    for panel, key in zip(panels[:, 0], keys, strict=True):
        _draw(panel, key, _column(true[key], column), _column(predicted[key], column), steps, length)
        panel.set_ylabel(f"{name} ({unit})" if unit else name)
    add_legend(panels[0, 0], ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    panels[-1, 0].set_xlabel("step (a window begins at each dotted line)" if length else "step")
    return figure


def _draw(panel: Any, key: Any, true: Any, predicted: Any, steps: int, length: int | None) -> None:
    if len(true) != len(predicted):
        raise DataError(
            f"`truth` and `prediction` must have the same steps. Received: {len(true)} and {len(predicted)} steps of "
            f"sequence {key!r}."
        )
    first = max(0, len(true) - steps)
    at = np.arange(first, len(true))
    if length:
        mark_windows(panel, range(-(-first // length) * length, len(true), length))
    panel.plot(at, true[first:], color=FAINT, linewidth=3, label="truth", solid_capstyle="round")
    panel.plot(at, predicted[first:], color=BLUE, linewidth=1.5, label="prediction")
    rmse = float(np.sqrt(np.nanmean((predicted.astype(np.float64) - true) ** 2)))
    panel.set_title(f"{shown(key)}   RMSE {rmse:.3g}".strip(), loc="left", color=INK, fontsize=10)
    panel.set_xlim(first, max(len(true) - 1, first + 1))
    panel.title.set_color(VERMILION if not np.isfinite(rmse) else INK)


def _column(values: Any, column: int) -> Any:
    array = np.asarray(values)
    return array if array.ndim == 1 else array.reshape(len(array), -1)[:, column]
