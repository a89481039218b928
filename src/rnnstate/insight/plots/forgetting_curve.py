"""The forgetting curve: how long the difference that a reset makes survives."""

from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.numbers.forgetting import forgetting_curves, half_life
from rnnstate.insight.plots.canvas import BLUE, GREEN, VERMILION, add_legend, mark, new_figure
from rnnstate.insight.watched import watch

_SHALLOW = 1e-8


def forgetting(source: Any, windows: Any = None, *, length: int | None = None, steps: int | None = None) -> Any:
    """Draw how the difference between a carried and a reset state fades, with the window length and the half-life.

    Args:
        source: A `StatefulModel`, or curves `(runs, steps + 1)` that are 1 at the reset.
        windows: `Windows`, for a model.
        length: Steps of a window, to be marked. The default is that of `windows`.
        steps: How many steps to look ahead.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If the state never differs from its initial state, or matplotlib is not installed.

    Example:

    >>> figure = forgetting(0.9 ** np.arange(30)[None], length=10)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['median', 'half-life: 6.6 steps', 'window: 10 steps']
    """
    if windows is None:
        curves = np.atleast_2d(np.asarray(source, dtype=np.float64))
    else:
        curves, length = forgetting_curves(source, watch(source, windows), steps), length or windows.length
    if not len(curves):
        raise DataError(
            "A forgetting curve needs a state that differs from its initial state. Received: states that never do. "
            "`rnnstate.health` tells which units stand still."
        )
    figure, panels = new_figure()
    _draw(panels[0, 0], curves, length)
    return figure


def _draw(panel: Any, curves: Any, length: int | None) -> None:
    lags, safe = np.arange(curves.shape[1]), np.maximum(curves, _SHALLOW)
    if len(curves) > 1:
        low, high = np.quantile(safe, [0.1, 0.9], axis=0)
        panel.fill_between(lags, low, high, color=BLUE, alpha=0.2, linewidth=0, label="10 % to 90 % of the runs")
    panel.plot(lags, np.median(safe, axis=0), color=BLUE, linewidth=2, label="median")
    half = half_life(curves)
    mark(panel, half, f"half-life: {half:.1f} steps", VERMILION)
    if length is not None:
        mark(panel, length, f"window: {length} steps", GREEN)
    lowest = max(_SHALLOW, float(np.median(safe, axis=0).min()) / 3)
    panel.set(xlabel="steps after the reset", ylabel="difference that is left", yscale="log", ylim=(lowest, None))
    panel.minorticks_off()
    panel.set_xlim(0, max(curves.shape[1] - 1, length or 0) * 1.02)
    add_legend(panel)
