"""The gradient by lag: how much the loss at one step depends on the states before, with the truncation marked."""

from typing import Any

import numpy as np

from rnnstate.insight.numbers.context import residual_of
from rnnstate.insight.numbers.exponents import gradient_by_lag as norms_by_lag
from rnnstate.insight.numbers.jacobians import jacobians
from rnnstate.insight.plots.canvas import BLUE, VERMILION, add_legend, mark, new_figure
from rnnstate.insight.watched import Watched, watch

_SHALLOW = 1e-12


def gradient_by_lag(source: Any, windows: Any = None, *, length: int | None = None, lags: int | None = None) -> Any:
    """Draw the norm of the gradient of the loss at a step by the state k steps before, for each lag k.

    Truncation drops the part on the right of the line. If the curve is still high there, a longer window, or `back`, lets
    the network learn more. The gradients are products of Jacobians by finite differences, so any backend gives the same.

    Args:
        source: A `StatefulModel` whose state has at most 400 numbers, or norms `(steps, lags)` from lag 1 on.
        windows: `Windows`, for a model. With targets per step the loss is half the squared error. Without them it is the
            outputs themselves.
        length: Through how many steps gradients flow in training, to be marked. The default is that of `windows`.
        lags: How many lags. The default is twice `length`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If the state is too large, or matplotlib is not installed.

    Example:

    >>> figure = gradient_by_lag(0.8 ** np.arange(1, 30)[None], length=12)
    >>> figure.axes[0].get_yscale()
    'log'
    """
    if windows is None:
        norms = np.atleast_2d(np.asarray(source, dtype=np.float64))
    else:
        length = length or windows.length + getattr(windows, "prefix", 0)
        norms = measured_gradient(source, watch(source, windows), lags or 2 * length)
    figure, panels = new_figure()
    _draw(panels[0, 0], norms, length)
    return figure


def measured_gradient(model: Any, watched: Watched, lags: int) -> Any:
    """Return the norm for each step and lag of one sequence, `(steps, lags)`."""
    found = jacobians(model, watched, steps=max(64, lags + 32))
    # At least some 16 steps with all lags before them make the mean.
    return norms_by_lag(found, residual_of(watched, found), min(lags, max(1, len(found.state) - 16)))


def _draw(panel: Any, norms: Any, length: int | None) -> None:
    lags, safe = np.arange(1, norms.shape[1] + 1), np.maximum(norms, _SHALLOW)
    if len(norms) > 1:
        low, high = np.quantile(safe, [0.1, 0.9], axis=0)
        panel.fill_between(lags, low, high, color=BLUE, alpha=0.2, linewidth=0, label="10 % to 90 % of the steps")
    panel.plot(lags, np.median(safe, axis=0), color=BLUE, linewidth=2, label="median")
    if length is not None:
        mark(panel, length, f"truncation: {length} steps", VERMILION)
    panel.set(xlabel="lag k (steps)", ylabel="norm of the gradient\nby the state k steps before", yscale="log")
    panel.minorticks_off()
    panel.set_xlim(0, max(len(lags), length or 0) * 1.02)
    add_legend(panel)
