"""The phase portrait: the path of the state in the plane of its two largest principal components."""

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.numbers.components import participation_ratio, principal_components
from rnnstate.insight.plots.canvas import COLOURS, FAINT, INK, add_colour_bar, add_legend, new_figure, shown
from rnnstate.insight.watched import Watched, as_watched

_BY = ("time", "key")


def portrait(
    source: Any, windows: Any = None, *, colour: str = "time", keys: Iterable[Hashable] | None = None, steps: int = 512
) -> Any:
    """Draw the states of some sequences in the plane in which they vary most, coloured by time or by key.

    Coloured by key it shows whether the state knows the sequence: then each key has a place of its own.

    Args:
        source: A `StatefulModel`, or the trace of `model.trace`, leaves `(batch, time, *shape)`.
        windows: `Windows`, for a model.
        colour: `"time"` or `"key"`.
        keys: The sequences. The default is up to six of the longest ones.
        steps: How many steps of each sequence.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If `colour` has another value, `source` is no trace, or matplotlib is not installed.

    Example:

    >>> path = np.stack([np.sin(np.arange(40) / 3), np.cos(np.arange(40) / 3)], axis=-1)
    >>> portrait(State({"gru/h": path[None]}), colour="key").axes[0].get_xlabel()
    'component 1 (53 % of the variance)'
    """
    if colour not in _BY:
        raise DataError(f"`colour` must be 'time' or 'key'. Received: colour={colour!r}.")
    watched = as_watched(source, windows, keys, rows=len(COLOURS), steps=steps)
    points, shares = principal_components(watched.vectors[watched.valid])
    plane = np.full((*watched.valid.shape, 2), np.nan)
    plane[watched.valid] = points
    figure, panels = new_figure(height=4.4)
    (_by_time if colour == "time" else _by_key)(figure, panels[0, 0], watched, plane)
    used = participation_ratio(watched.vectors[watched.valid])
    total = watched.vectors.shape[-1]
    panels[0, 0].set(
        xlabel=f"component 1 ({100 * shares[0]:.0f} % of the variance)",
        ylabel=f"component 2 ({100 * shares[1]:.0f} %)",
    )
    panels[0, 0].set_title(f"{used:.1f} of {total} dimensions used (participation ratio)", loc="left", color=INK)
    return figure


def _by_time(figure: Any, panel: Any, watched: Watched, plane: Any) -> None:
    time = np.broadcast_to(np.arange(plane.shape[1]), plane.shape[:2])
    for path in plane:
        panel.plot(*path.T, color=FAINT, linewidth=0.5, alpha=0.6, zorder=1)
    places = plane[watched.valid]
    picture = panel.scatter(*places.T, c=time[watched.valid], cmap="viridis", s=9, linewidths=0, zorder=2)
    panel.plot(*plane[:, 0].T, "x", color=INK, markersize=7, label="first step", zorder=3)
    add_colour_bar(figure, picture, panel, "step")
    add_legend(panel)


def _by_key(figure: Any, panel: Any, watched: Watched, plane: Any) -> None:
    for number, (key, path) in enumerate(zip(watched.keys, plane, strict=True)):
        colour, marker = COLOURS[number % len(COLOURS)], "o^sDvP"[number % 6]
        panel.plot(*path.T, color=colour, linewidth=0.6, marker=marker, markersize=3, alpha=0.8, label=shown(key))
    add_legend(panel, loc="center left", bbox_to_anchor=(1, 0.5), title="sequence", title_fontsize=9)
