"""The saturation of gates: for each unit, how often a gate is closed and how often it is open."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.numbers.gates import gate_values
from rnnstate.insight.numbers.units import saturation
from rnnstate.insight.plots.canvas import COLOURS, FAINT, add_legend, new_figure, shown
from rnnstate.insight.watched import watch

_LOW, _HIGH = 0.1, 0.9


def gate_saturation(source: Any, windows: Any = None) -> Any:
    """Draw the share of steps in which each gate is below 0.1 and above 0.9: a point for each unit, a panel for each layer.

    A forget gate on the right keeps its cell for long. A point at the bottom left is never saturated. A gate at a corner
    does not react to its inputs, so its unit learns slowly.

    Args:
        source: A `StatefulModel`, or gates `{layer: {gate: (batch, time, units)}}` with values from 0 to 1.
        windows: `Windows`, for a model.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If no LSTM or GRU is carried, or matplotlib is not installed.

    Example:

    >>> figure = gate_saturation({"lstm": {"forget": np.full((1, 9, 4), 0.95), "input": np.full((1, 9, 4), 0.5)}})
    >>> figure.axes[0].get_xlabel()
    'share of steps above 0.9'

    References:
        - Karpathy et al., "Visualizing and understanding recurrent networks", arXiv:1506.02078.
    """
    if isinstance(source, Mapping):
        gates, valid = source, None
    else:
        watched = watch(source, windows)
        gates, valid = gate_values(source, watched), watched.valid
    if not gates:
        raise DataError(
            "Gate saturation needs an LSTM or a GRU that carries its state and is called once. Received: no such layer. "
            "`rnnstate.plots.states` shows every kind of state."
        )
    columns = min(3, len(gates))
    rows = -(-len(gates) // columns)
    figure, panels = new_figure(rows, columns, height=3.4 * rows, sharex=True, sharey=True)
    for number, panel in enumerate(panels.flat):
        panel.set_visible(number < len(gates))
    for panel, (layer, values) in zip(panels.flat, gates.items(), strict=False):
        _draw(panel, layer, values, valid)
    return figure


def _draw(panel: Any, layer: str, gates: Mapping[str, Any], valid: Any) -> None:
    for (name, values), colour, marker in zip(gates.items(), COLOURS, "o^sDvP", strict=False):
        steps = np.ones(values.shape[:2], bool) if valid is None else valid
        low, high = saturation(np.asarray(values), steps, _LOW, _HIGH)
        panel.scatter(high, low, s=28, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name, clip_on=False)
    panel.plot([0, 1], [1, 0], color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    panel.set(xlabel=f"share of steps above {_HIGH}", ylabel=f"share of steps below {_LOW}", title=shown(layer))
    panel.set(xlim=(0, 1), ylim=(0, 1))
    add_legend(panel, title="gate", title_fontsize=9)
