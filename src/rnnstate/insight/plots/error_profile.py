"""The error at each position in a window, carried against reset: a step at position 0 is the symptom of a lost state."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.insight.numbers.positions import Error, errors_by_position
from rnnstate.insight.plots.canvas import BLUE, GREEN, PURPLE, VERMILION, add_legend, new_figure

_COLOURS = {"carried": BLUE, "reset": VERMILION, "observed": GREEN}
_LABELS = {
    "carried": "state carried",
    "reset": "each window from its initial state",
    "observed": "each window from known values",
}


def error_by_position(source: Any, windows: Any = None, *, error: Error | None = None, unit: str = "") -> Any:
    """Draw the error at each position in a window, with the state carried, reset, and observed if the model can.

    If the curve of the carried state is flat and the other one begins high, the state is carried and useful. If both are
    equal, the model does not use what it carries.

    Args:
        source: A `StatefulModel`, or a mapping from names to errors `(length,)`.
        windows: `Windows` with targets per step, for a model.
        error: Returns one number for each step from targets and outputs, both `(time, ...)`. The default leads to the root
            mean squared error.
        unit: The unit of the targets, for the label.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DataError: If the windows have no targets per step, or matplotlib is not installed.

    Example:

    >>> figure = error_by_position({"carried": np.array([0.2, 0.2]), "reset": np.array([0.9, 0.3])})
    >>> figure.axes[0].get_xlabel()
    'position in the window (steps)'
    """
    measured = source if isinstance(source, Mapping) else errors_by_position(source, windows, error)
    figure, panels = new_figure()
    panel = panels[0, 0]
    for number, (name, values) in enumerate(measured.items()):
        colour = _COLOURS.get(name, (PURPLE, VERMILION, GREEN)[number % 3])
        style = "." if len(values) < 50 else ""
        panel.plot(
            np.arange(len(values)), values, color=colour, marker=style, linewidth=1.8, label=_LABELS.get(name, name)
        )
    kind = "error" if error is not None else "RMSE"
    panel.set(xlabel="position in the window (steps)", ylabel=f"{kind} ({unit})" if unit else kind)
    panel.set_ylim(bottom=0)
    add_legend(panel)
    return figure
