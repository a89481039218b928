"""The heat map of a state over time: a panel for each leaf, a line for each unit, with windows and resets marked."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from rnnstate.insight.plots.canvas import INK, VERMILION, add_colour_bar, mark_windows, new_figure, shown
from rnnstate.insight.watched import Watched, as_watched
from rnnstate.messages import quoted


def states(
    source: Any, windows: Any = None, *, key: Hashable | None = None, steps: int = 256, leaves: list[str] | None = None
) -> Any:
    """Draw h, c and every other leaf over time for one sequence.

    Dotted lines show where windows begin. If the state is carried, nothing changes there. Red triangles show resets.

    Args:
        source: A `StatefulModel`, or the trace of `model.trace`, leaves `(batch, time, *shape)`.
        windows: `Windows`, for a model.
        key: The sequence. The default is the longest one, or row 0 of a trace.
        steps: How many steps to show.
        leaves: The names of the leaves to show. The default is the first six.

    Returns:
        A `matplotlib.figure.Figure` with one panel for each leaf.

    Raises:
        DataError: If `source` is no trace, or matplotlib is not installed.

    Example:

    >>> trace = State({"lstm/h": np.zeros((2, 30, 8)), "lstm/c": np.ones((2, 30, 8))})
    >>> [axes.get_ylabel() for axes in states(trace).axes][:2]
    ['lstm/h\\nunit', 'lstm/c\\nunit']
    """
    watched = as_watched(source, windows, None if windows is None or key is None else [key], rows=1, steps=steps)
    row = watched.keys.index(key) if key in watched.keys else 0
    names = list(watched.leaves)[:6] if leaves is None else leaves
    figure, panels = new_figure(len(names), height=1.2 + 1.2 * len(names), sharex=True)
    for panel, name in zip(panels[:, 0], names, strict=True):
        _draw(figure, panel, watched, row, name, steps)
    left_out = "" if len(names) == len(watched.leaves) else f"; {quoted(watched.leaves, len(watched.leaves))} in all"
    panels[0, 0].set_title(f"sequence {shown(watched.keys[row])}{left_out}", loc="left", color=INK, fontsize=10)
    panels[-1, 0].set_xlabel("step (a window begins at each dotted line)" if watched.length else "step")
    return figure


def _draw(figure: Any, panel: Any, watched: Watched, row: int, name: str, steps: int) -> None:
    count = min(int(watched.valid[row].sum()), steps)
    values = watched.leaves[name][row, :count].reshape(count, -1).T.astype(np.float64)
    # A few extreme values would make all others pale.
    limit = max(float(np.quantile(np.abs(values), 0.99)), 1e-6)
    picture = panel.imshow(
        values, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest",
        extent=(-0.5, count - 0.5, len(values) - 0.5, -0.5),
    )  # fmt: skip
    starts = watched.starts[row][1:]
    mark_windows(panel, starts[starts < count] - 0.5)
    resets = np.flatnonzero(watched.resets[row, :count])
    if len(resets):
        panel.plot(resets, np.full(len(resets), -0.5), "v", color=VERMILION, markersize=7, clip_on=False, zorder=3)
    panel.set_ylabel(f"{name}\nunit", fontsize=9)
    panel.yaxis.get_major_locator().set_params(integer=True)
    add_colour_bar(figure, picture, panel, "value")
