"""The error at each position in a window. A step where windows begin shows that the state is not carried."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.initial.base import InitialState
from rnnstate.network.masks import is_series
from rnnstate.state.state import to_numpy
from rnnstate.windows.batch import Batch

Array = NDArray[Any]
Error = Callable[[Array, Array], Array]


def by_position(errors: Mapping[Hashable, Array], starts: Mapping[Hashable, Array], length: int) -> Array:
    """Return the mean at each position in a window, `(length,)`; NaN where no window has that position.

    The first window of a sequence is left out, because nothing comes before it.

    Args:
        errors: One number for each step of each sequence, `(time,)`.
        starts: The first steps of the windows of each sequence, rising.
        length: Steps of a window.

    Example:

    >>> by_position({"a": np.array([9.0, 9.0, 4.0, 2.0, 6.0])}, {"a": np.array([0, 2, 4])}, length=2).tolist()
    [5.0, 2.0]
    """
    total, count = np.zeros(length), np.zeros(length)
    for key, values in errors.items():
        first = np.asarray(starts[key])
        steps = np.arange(first[1] if len(first) > 1 else len(values), len(values))
        position = steps - first[np.searchsorted(first, steps, side="right") - 1]
        total += np.bincount(position, values[steps], minlength=length)
        count += np.bincount(position, minlength=length)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def errors_by_position(
    model: Any, windows: Any, error: Error | None = None, carried: Mapping[Hashable, Any] | None = None
) -> dict[str, Array]:
    """Return the error at each position in a window, for each way to start a window.

    Args:
        model: A `StatefulModel` with one output per step.
        windows: `Windows` with targets per step.
        error: Returns one number for each step from targets and outputs, both `(time, ...)`. The default is the mean
            squared difference, of which the root is taken in the end.
        carried: The result of `model.predict(windows)`, if it is known already.

    Returns:
        `"carried"`, what `predict` does; `"reset"`, each window from the layers' own initial state, zeros in Keras; and
        `"observed"`, each window from its known values, if the model starts from such. Each is `(length,)`.

    Raises:
        DataError: If the windows have no targets per step, or outputs and targets have different shapes.
    """
    targets = _targets(windows)
    plan = windows.plan
    starts = {
        key: np.sort(plan.start[plan.sequence == place]) for place, key in enumerate(windows.keys) if key in targets
    }
    carried = model.predict(windows, verbose=0) if carried is None else carried
    ways = {"carried": carried, "reset": _restarted(model, windows, observed=False)}
    if model.start.needs_observed:
        ways["observed"] = _restarted(model, windows, observed=True)
    measured = {}
    for name, outputs in ways.items():
        errors = {key: _error(targets[key], outputs[key], error) for key in targets}
        mean = by_position(errors, starts, plan.length)
        measured[name] = np.sqrt(mean) if error is None else mean
    return measured


def fresh_state(model: Any, rows: int) -> Any:
    """Return the state of a sequence about which nothing is known, as `predict` starts it without known values."""
    return InitialState.state(model.start, rows) if model.start.needs_observed else model.initial_state(rows)


def _targets(windows: Any) -> dict[Hashable, Array]:
    if windows.targets != "steps":
        raise DataError(
            "The error by position needs `Windows` with one series of targets, one entry per step. Received: "
            f"targets={windows.targets!r}. Give `y` with as many entries as `x` has steps."
        )
    found: dict[Hashable, Array] = windows.assemble(batch[1] for batch in windows)
    return found


def _error(target: Array, output: Any, error: Error | None) -> Array:
    if error is not None:
        return np.asarray(error(target, output), dtype=np.float64)
    if not isinstance(output, np.ndarray):
        raise DataError("The model must have one output. Received: several. Give a model with one of its outputs.")
    target = target[..., None] if target.ndim == output.ndim - 1 and output.shape[-1] == 1 else target
    if target.shape != output.shape:
        raise DataError(
            f"Targets must have the shape of the outputs, {output.shape[1:]} at each step. Received: {target.shape[1:]}. "
            "Give `error=`, a function from targets and outputs to one number for each step."
        )
    return np.asarray(((output.astype(np.float64) - target) ** 2).reshape(len(target), -1).mean(axis=1))


def _restarted(model: Any, windows: Any, observed: bool) -> dict[Hashable, Any]:
    """Return the outputs of all windows, each started without its past."""

    def outputs() -> Any:
        for batch in windows:
            inputs = Batch.from_keras(batch[0])
            lead, rows = inputs.lead, len(inputs.slot)
            x = tree.map_structure(partial(_without_lead, lead=lead, steps=lead + windows.plan.length), inputs.x)
            start = model.initial_state(rows, inputs.observed) if observed else fresh_state(model, rows)
            mask = None if inputs.mask is None else np.asarray(inputs.mask)[:, lead:]
            y, _ = model.step(x, start, mask=mask)
            yield tree.map_structure(to_numpy, y)

    found: dict[Hashable, Any] = windows.assemble(outputs())
    return found


def _without_lead(part: Array, lead: int, steps: int) -> Array:
    return part[:, lead:] if is_series(part, steps) else part
