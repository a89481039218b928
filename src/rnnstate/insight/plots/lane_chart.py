"""The lanes: which sequence each row of each batch holds, where sequences begin, and what is padding."""

from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.plots.canvas import COLOURS, DARK, INK, new_figure, shown
from rnnstate.windows.batch import Batch

_GROUND = "#eaeef2"


def lanes(windows: Any, *, batches: int = 24, rows: int = 24) -> Any:
    """Draw the plan of `Windows`: a box for each window, in the colour of its sequence, one line for each row of a batch.

    A triangle shows where a row starts from the initial state: a sequence begins, a reset lies in the window, or a gap comes
    before it. Within a colour the state is carried from box to box. Grey is padding, which has no loss.

    Args:
        windows: `Windows`.
        batches: How many batches to show.
        rows: How many rows of a batch to show.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If `windows` is not `Windows`, or matplotlib is not installed.

    Example:

    >>> figure = lanes(Windows({"a": np.ones((5, 1)), "b": np.ones((2, 1))}, length=3, batch_size=2))
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('batch', 'row of the batch')
    """
    if not hasattr(windows, "plan"):
        raise DataError(f"`windows` must be `rnnstate.Windows`. Received: {type(windows).__name__}.")
    plan = windows.plan
    count, height = min(batches, plan.num_batches), min(rows, plan.rows)
    figure, panels = new_figure(height=1.3 + 0.32 * max(3, height))
    panel = panels[0, 0]
    for index in range(count):
        fresh = _fresh(windows, index)
        for row in range(height):
            _draw_box(panel, windows, index, row)
            if fresh[row] and plan.sequence[index, row] >= 0:
                panel.plot(index + 0.03, row - 0.36, ">", color=INK, markersize=5, zorder=3)
    panel.set(xlim=(0, count), ylim=(height - 0.5, -0.5), xlabel="batch", ylabel="row of the batch")
    panel.set_xticks(np.arange(count) + 0.5, [str(index) for index in range(count)])
    panel.set_yticks(range(height))
    panel.tick_params(length=0)
    panel.set_title(_title(windows, count, height), loc="left", color=INK, fontsize=10)
    return figure


def lane_table(windows: Any) -> Any:
    """Return the sequence of each row of each batch, `(batches, rows)`, and the share of each window that is data.

    An empty row is -1.
    """
    plan = windows.plan
    return np.array(plan.sequence), plan.steps / plan.length


def _draw_box(panel: Any, windows: Any, index: int, row: int) -> None:
    sequences, filled = lane_table(windows)
    sequence, share = int(sequences[index, row]), float(filled[index, row])
    if sequence < 0:
        panel.barh(row, 0.94, left=index + 0.03, height=0.72, color=_GROUND)
        return
    panel.barh(row, 0.94, left=index + 0.03, height=0.72, color=_GROUND, hatch="////", edgecolor="white", linewidth=0)
    colour = COLOURS[sequence % len(COLOURS)]
    panel.barh(row, 0.94 * share, left=index + 0.03, height=0.72, color=colour)
    if share > 0.3:
        ink, name = "white" if colour in DARK else "black", shown(windows.keys[sequence], 6)
        panel.text(index + 0.03 + 0.47 * share, row, name, ha="center", va="center", fontsize=8, color=ink)


def _fresh(windows: Any, index: int) -> Any:
    """Return which rows of a batch go through an initial state."""
    inputs = Batch.from_keras(windows[index][0])
    fresh = np.asarray(inputs.first, bool)
    if inputs.reset is not None:
        fresh = fresh | np.asarray(inputs.reset)[:, inputs.lead :].any(axis=1)
    return fresh if inputs.keep is None else fresh | (np.asarray(inputs.keep) == 0)


def _title(windows: Any, count: int, height: int) -> str:
    plan = windows.plan
    padded = 1 - plan.steps.sum() / (plan.steps.size * plan.length)
    part = "" if (count, height) == plan.sequence.shape else f", the first {count} x {height} shown"
    size = f"{plan.num_batches} batches of {plan.rows} rows x {plan.length} steps"
    return f"{size}{part}; {100 * padded:.0f} % padding; a triangle is a fresh start"
