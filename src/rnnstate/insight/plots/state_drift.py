"""The norm of the state over time. It should settle. A norm that keeps growing drifts, and may explode."""

from typing import Any

import numpy as np

from rnnstate.insight.numbers.units import norms
from rnnstate.insight.plots.canvas import COLOURS, add_legend, mark_windows, new_figure
from rnnstate.insight.watched import as_watched


def drift(source: Any, windows: Any = None, *, steps: int = 512) -> Any:
    """Draw the root mean square of each leaf over the steps of some sequences: the median, and the range of the sequences.

    Args:
        source: A `StatefulModel`, or the trace of `model.trace`, leaves `(batch, time, *shape)`.
        windows: `Windows`, for a model.
        steps: How many steps to show.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If `source` is no trace, or matplotlib is not installed.

    Example:

    >>> figure = drift(State({"gru/h": np.ones((2, 30, 8))}))
    >>> figure.axes[0].get_ylabel()
    'root mean square of the units'
    """
    watched = as_watched(source, windows, steps=steps)
    figure, panels = new_figure()
    panel = panels[0, 0]
    for number, (name, leaf) in enumerate(watched.leaves.items()):
        values = np.where(watched.valid, norms(leaf), np.nan)
        colour, style = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
        at = np.arange(values.shape[1])
        if len(values) > 1:
            panel.fill_between(
                at, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.15, linewidth=0
            )
        panel.plot(at, np.nanmedian(values, axis=0), style, color=colour, linewidth=1.6, label=name)
    starts = watched.starts[0][1:]
    if len(starts) <= 40:
        mark_windows(panel, starts)
    panel.set(xlabel="step" + (" (a window begins at each dotted line)" if 0 < len(starts) <= 40 else ""))
    panel.set(ylabel="root mean square of the units", xlim=(0, watched.valid.shape[1] - 1))
    panel.set_ylim(bottom=0)
    add_legend(panel, ncols=2)
    return figure
