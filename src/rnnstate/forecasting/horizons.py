"""The error by horizon: how it grows with the number of steps ahead, while the network runs on its own predictions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.ahead import Outlook
from rnnstate.forecasting.examples import Array
from rnnstate.forecasting.forecast import roll_out
from rnnstate.forecasting.looked_at import Looked
from rnnstate.state.state import State

_ORIGINS = 256
_AHEAD = 96


@dataclass(frozen=True, eq=False)
class ErrorsByHorizon:
    """The errors of forecasts from several places, which this library calls origins.

    Args:
        steps: How many steps ahead, 1, 2, ...
        model: The root mean squared error of the model at each of them, in standard deviations of the targets.
        persistence: The error of the forecast that nothing changes.
        origins: How many forecasts were made.
    """

    steps: Array
    model: Array
    persistence: Array
    origins: int


def errors_by_horizon(looked: Looked) -> ErrorsByHorizon:
    """Forecast from several places of the data, as `rnnstate forecast --hold` does, and compare with what came.

    Raises:
        DataError: If no sequence is long enough.
    """
    settings, watched = looked.run.settings, looked.watched
    time, horizon, count = watched.valid.shape[1], settings.horizon, len(settings.targets)
    steps = max(horizon, min(_AHEAD, time // 4))
    rows, origins = _origins(watched.valid, warm=max(horizon, min(settings.window, time // 4)), steps=steps)
    scaling, inputs = looked.run.scaling, watched.sample.x
    # The last `horizon` outputs at an origin t predict the steps t + 1 ... t + horizon.
    made = watched.outputs[rows[:, None], origins[:, None] + np.arange(1 - horizon, 1)].astype(np.float64)
    outlook = Outlook(scaling.unscale(made), scaling.unscale(inputs[rows, origins].astype(np.float64)))
    state = State({name: leaf[rows, origins] for name, leaf in watched.leaves.items()})
    ahead = _scaled(scaling, roll_out(looked.run.model, scaling, state, outlook, steps))
    # The targets are the first inputs, so what came is among the inputs.
    truth = inputs[rows[:, None], origins[:, None] + np.arange(1, steps + 1), :count]
    now = inputs[rows, origins, :count][:, None]
    return ErrorsByHorizon(np.arange(1, steps + 1), _rmse(ahead - truth), _rmse(now - truth), len(rows))


def _origins(valid: Array, warm: int, steps: int) -> tuple[Array, Array]:
    """Return rows and steps from which all of the next `steps` steps are known."""
    found = [(row, at) for row, known in enumerate(valid.sum(axis=1)) for at in range(warm, int(known) - steps)]
    if not found:
        raise DataError(
            f"Errors by horizon need {warm + steps + 1} rows without a gap. Received: {int(valid.sum(axis=1).max())} at "
            "most. Give more data."
        )
    chosen = np.linspace(0, len(found) - 1, min(len(found), _ORIGINS)).round().astype(int)
    rows, origins = np.array(found)[chosen].T
    return rows, origins


def _scaled(scaling: Any, targets: Array) -> Array:
    count = targets.shape[-1]
    scaled: Array = (targets - scaling.mean[:count]) / scaling.std[:count]
    return scaled


def _rmse(wrong: Array) -> Array:
    """Return the error at each step, `(steps,)`, from differences `(origins, steps, targets)`."""
    error: Array = np.sqrt(np.mean(wrong.astype(np.float64) ** 2, axis=(0, 2)))
    return error
