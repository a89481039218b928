"""The steps after the data: a network runs on its own predictions, from the place where each key stands.

A network that predicts `horizon` steps ahead has predicted the next `horizon` steps when the data end. The steps after these
need inputs. The predictions are the inputs of the targets, `horizon` steps at a time:

    data | ahead ahead ahead |                    horizon = 3
         `--- inputs of -----> next next next |   one call of `step`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.ahead import Outlook
from rnnstate.forecasting.continuation import Place, Standing
from rnnstate.forecasting.examples import Array
from rnnstate.forecasting.run_folder import Run
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.times import Kind, Ticks, read_tick, show_tick
from rnnstate.messages import counted, listed, quoted
from rnnstate.windows.counts import check_count
from rnnstate.windows.scaling import Scaling

_MOST_STEPS = 1_000_000


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predictions for the steps after the data.

    Args:
        keys: One name for each key.
        left_out: Why keys have no forecast, by key.
        ticks: Times `(keys, steps)`, if there is a time column.
        targets: Predictions in the data's own units `(keys, steps, targets)`.
        kind: Whether times are dates or numbers.
        zoned: Whether dates name their time zone.
    """

    keys: Sequence[str]
    left_out: dict[str, str]
    ticks: Ticks | None
    targets: Array
    kind: Kind | None
    zoned: bool


def forecast(run: Run, standing: Standing, steps: int | None = None, *, hold: bool = False) -> Forecast:
    """Predict the steps after the place where each key stands.

    Args:
        run: The RUN.
        standing: Where the keys stand.
        steps: How many steps. The default is the horizon of the RUN.
        hold: Whether inputs that are no targets keep their last values in the steps after the horizon.

    Raises:
        DataError: If inputs of the future are needed and `hold` is false, or no key can be forecast.
    """
    settings = run.settings
    steps = check_request(settings, steps, hold)
    outlook = _outlook(run, standing)
    reasons = {place.key: _why_not(place, outlook.targets[row], settings) for row, place in enumerate(standing.places)}
    left_out = {key: reason for key, reason in reasons.items() if reason is not None}
    rows = [row for row, place in enumerate(standing.places) if place.key not in left_out]
    if not rows:
        key, reason = next(iter(left_out.items()))
        raise DataError(
            f"A forecast needs a key that it can start from. Received: {f'{key!r}: ' if key else ''}{reason}."
        )
    targets = roll_out(run.model, run.scaling, standing.state.rows(rows), outlook.rows(rows), steps)
    places = [standing.places[row] for row in rows]
    ticks = None if settings.time is None else _ticks(places, standing.kind or "number", steps)
    return Forecast([place.key for place in places], left_out, ticks, targets, standing.kind, standing.zoned)


def roll_out(model: Any, scaling: Scaling, state: Any, outlook: Outlook, steps: int) -> Array:
    """Return the predictions of the next steps `(keys, steps, targets)`. Other inputs keep their last values."""
    import keras

    made = [outlook.targets]
    horizon, count = outlook.targets.shape[1:]
    blocks = -(-steps // horizon) - 1
    held = np.repeat(outlook.inputs[:, None], horizon, axis=1)
    if horizon == 1 and blocks:
        first, known = _scaled(scaling, held, outlook.targets), None
        if held.shape[-1] > count:
            known = np.repeat(first[:, :, count:], blocks, axis=1)
        y, _ = model.rollout(first[:, 0, :count], state, blocks, inputs=known)
        made.append(scaling.unscale(keras.ops.convert_to_numpy(y).astype("float64")))
        blocks = 0
    for _ in range(blocks):
        y, state = model.step(_scaled(scaling, held, made[-1]), state)
        made.append(scaling.unscale(keras.ops.convert_to_numpy(y).astype("float64")))
    return np.concatenate(made, axis=1)[:, :steps]


def forecast_columns(
    settings: Settings, result: Forecast, *, text: bool = False, layout: str | None = None
) -> dict[str, Any]:
    """Return a column for the key, one for the time or the step, and one for each target.

    Args:
        settings: Arguments of the training.
        result: The forecast.
        text: Whether times are for a text file.
        layout: Format of the times in a text file, as for `datetime.strptime`. The default is ISO dates.

    Raises:
        DataError: If two columns would have one name.
    """
    keys, steps, _ = result.targets.shape
    columns: dict[str, Any] = {}
    if settings.key is not None:
        columns[settings.key] = [key for key in result.keys for _ in range(steps)]
    if result.ticks is None:
        if "step" in (settings.key, *settings.targets):
            raise DataError("The columns of the output must differ. Received: `step` twice. Rename it in DATA.")
        columns["step"] = np.tile(np.arange(1, steps + 1), keys)
    else:
        columns[str(settings.time)] = _cells(result.ticks.reshape(-1), result, layout if text else None, text)
    for index, target in enumerate(settings.targets):
        columns[target] = result.targets[:, :, index].reshape(-1)
    return columns


def _outlook(run: Run, standing: Standing) -> Outlook:
    if standing.outlook is None:
        raise DataError(
            f"A forecast without DATA needs a RUN of format 2. Received: {run.path}, of format 1. "
            "Give the data that the forecast continues, or train again."
        )
    return standing.outlook


def check_request(settings: Settings, steps: int | None, hold: bool) -> int:
    """Return the number of steps, the horizon by default.

    Raises:
        DataError: If it is no count, or inputs of the future are needed and `hold` is false.
    """
    steps = settings.horizon if steps is None else check_count("steps", steps)
    if steps > _MOST_STEPS:
        raise DataError(
            f"`steps` must be at most {_MOST_STEPS:,}, as all are kept in memory. Received: steps={steps:,}."
        )
    others = settings.columns.inputs[len(settings.targets) :]
    if others and steps > settings.horizon and not hold:
        raise DataError(
            f"A forecast of more than {counted(settings.horizon, 'step')} needs future values of {quoted(others, 9)}, which "
            f"RUN does not predict. Received: {counted(steps, 'step')}. Use --hold to keep each at its last value, ask for "
            f"at most {counted(settings.horizon, 'step')}, or train with each of them as a --target."
        )
    return steps


def _why_not(place: Place, ahead: NDArray[np.float64], settings: Settings) -> str | None:
    """Return why a key has no forecast, or `None` if it has one."""
    if not np.isfinite(ahead).any():
        return "its data have no complete row"
    if not np.isfinite(ahead).all():
        return f"fewer than {counted(settings.horizon, 'complete row')} at the end of its data, after a gap"
    if settings.time is not None and place.step is None:
        return "its times have no usual step"
    return None


def _scaled(scaling: Scaling, held: Array, targets: Array) -> NDArray[Any]:
    import keras

    inputs = np.concatenate([targets, held[:, :, targets.shape[-1] :]], axis=-1)
    scaled: NDArray[Any] = scaling.scale(inputs).astype(keras.config.floatx())
    return scaled


def _ticks(places: Sequence[Place], kind: Kind, steps: int) -> Ticks:
    last = np.array([read_tick(str(place.time), kind) for place in places])
    usual = np.array([place.step for place in places], dtype=np.float64)
    return last[:, None] + usual[:, None] * np.arange(1, steps + 1)


def _cells(ticks: Ticks, result: Forecast, layout: str | None, text: bool) -> Any:
    """Return times as cells of a table."""
    if result.kind == "number":
        whole = ticks.astype(np.int64)
        if np.array_equal(whole, ticks):
            return whole
        return [show_tick(tick, "number") for tick in ticks.tolist()] if text else ticks
    if layout is not None or (result.zoned and text):
        zone = UTC if result.zoned else None
        dates = [datetime(1970, 1, 1, tzinfo=zone) + timedelta(seconds=tick) for tick in ticks.tolist()]
        return [date.isoformat(sep=" ") if layout is None else date.strftime(layout) for date in dates]
    return np.rint(ticks * 1e6).astype(np.int64).astype("datetime64[us]")


def about_left_out(left_out: dict[str, str]) -> str:
    """Return a line about the keys without a forecast."""
    reasons = sorted(set(left_out.values()))
    return f"No forecast for {counted(len(left_out), 'key')} ({listed(left_out)}): {reasons[0]}."
