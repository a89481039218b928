"""The pictures of a RUN by name: the plots of `rnnstate.plots` on its data, and the losses of its training."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnnstate.forecasting.horizons import ErrorsByHorizon, errors_by_horizon
from rnnstate.forecasting.looked_at import Looked
from rnnstate.insight import plots
from rnnstate.insight.numbers.positions import errors_by_position
from rnnstate.insight.plots.canvas import BLUE, VERMILION, add_legend, mark, new_figure

_SCALED = "standard deviations"


def draw_training(history: Mapping[str, list[float]]) -> Any:
    """Draw the losses of each epoch."""
    figure, panels = new_figure()
    panel = panels[0, 0]
    for name, label, colour in (("loss", "training", BLUE), ("val_loss", "validation", VERMILION)):
        if history.get(name):
            panel.plot(np.arange(1, len(history[name]) + 1), history[name], ".-", color=colour, label=label)
    if history.get("val_loss"):
        mark(panel, int(np.argmin(history["val_loss"])) + 1, "weights that were kept")
    panel.set(xlabel="epoch", ylabel="loss (scaled MSE)", yscale="log")
    panel.xaxis.get_major_locator().set_params(integer=True)
    add_legend(panel)
    return figure


def _forecast(looked: Looked) -> Any:
    settings = looked.run.settings
    name = f"{settings.targets[0]}, {settings.horizon} ahead"
    return plots.forecast(looked.true, looked.predicted, length=settings.window, name=name)


def _of_state(name: str) -> Callable[[Looked], Any]:
    def draw(looked: Looked) -> Any:
        return getattr(plots, name)(looked.run.model, looked.watched)

    return draw


def _by_position(looked: Looked) -> Any:
    measured = errors_by_position(looked.run.model, looked.windows, carried=looked.outputs)
    return plots.error_by_position(measured, unit=_SCALED)


def draw_horizons(errors: ErrorsByHorizon) -> Any:
    """Draw the error at each number of steps ahead."""
    figure, panels = new_figure()
    panel = panels[0, 0]
    for values, label, colour in (
        (errors.model, "model, on its own predictions", BLUE),
        (errors.persistence, "persistence (value now)", VERMILION),
    ):
        panel.plot(errors.steps, values, color=colour, label=label, linewidth=1.8)
    panel.set(xlabel="steps ahead", ylabel=f"RMSE ({_SCALED})")
    panel.set_ylim(bottom=0)
    add_legend(panel)
    return figure


# In the order in which a reader of a report needs them.
PLOTS: dict[str, Callable[[Looked], Any]] = {
    "training": lambda looked: draw_training(looked.run.history),
    "error-by-horizon": lambda looked: draw_horizons(errors_by_horizon(looked)),
    "error-by-position": _by_position,
    "forecast": _forecast,
    "forgetting": _of_state("forgetting"),
    "gradient-by-lag": _of_state("gradient_by_lag"),
    "states": _of_state("states"),
    "gate-saturation": _of_state("gate_saturation"),
    "drift": _of_state("drift"),
    "portrait": _of_state("portrait"),
    "neighbours": _of_state("neighbours"),
    "lanes": lambda looked: plots.lanes(looked.training_windows, batches=10, rows=8),
}
