"""Everything on which a training step depends, copied from a model and restored bit for bit.

| part | what it holds |
|---|---|
| `variables` | weights, BatchNorm, seed generators, metrics, optimizer, in Keras' order |
| `states` | keys, rows and flags of the training bank |
| `callbacks` | the memory of callbacks such as `EarlyStopping` |
| `history` | the `History` of all epochs so far |
| `random` | the global random states of Python, NumPy and the backend |
"""

import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import SpecMismatchError
from rnnstate.kernels import kernels
from rnnstate.kernels.ranks.group import group
from rnnstate.state.state import to_numpy
from rnnstate.training.ranks import metric_sums

# The public attributes of Keras' callbacks that must survive from one epoch to the next.
_REMEMBERED: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (keras.callbacks.EarlyStopping, ("wait", "stopped_epoch", "best", "best_weights", "best_epoch")),
    (keras.callbacks.ReduceLROnPlateau, ("wait", "best", "cooldown_counter")),
    (keras.callbacks.ModelCheckpoint, ("best",)),
)


def take_snapshot(model: Any, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return everything on which the next training step depends, as NumPy arrays and plain values."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    states: dict[str, Any] = {}
    model.states.save(states)
    return {
        "variables": _values(model),
        "states": states,
        "callbacks": [_memory(callback) for callback in callbacks],
        "history": {"history": model.history.history, "epoch": model.history.epoch},
        "random": {
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),
            "backend": kernels().random_state(),
        },
    }


def put_snapshot(model: Any, callbacks: Sequence[Any], content: dict[str, Any]) -> None:
    """Restore everything that `take_snapshot` returned.

    Raises:
        SpecMismatchError: If the variables of the model differ from those of the snapshot. Nothing changes then.
    """
    variables = _variables(model)
    _check_variables(variables, content["variables"])
    for variable, value in zip(variables, content["variables"], strict=True):
        variable.assign(ops.convert_to_tensor(value, dtype=variable.dtype))
    if group().rank:
        model.reset_metrics()  # rank 0 has the sums of all ranks
    model.states.load(content["states"])
    for callback, memory in zip(callbacks, content["callbacks"], strict=True):
        _remember(callback, memory)
    model.history.history = {name: list(values) for name, values in content["history"]["history"].items()}
    model.history.epoch = list(content["history"]["epoch"])
    random.setstate(content["random"]["python"])
    np.random.set_state(content["random"]["numpy"])
    kernels().set_random_state(content["random"]["backend"])


def weigh_losses(model: Any, rows: int) -> None:
    """Let the mean losses of an epoch so far weigh as much as they do with the present number of processes.

    Keras weighs the loss of a batch by its rows, and several processes together have more rows than one if some are empty.

    Args:
        model: The model.
        rows: The rows of all batches so far, of all processes.
    """
    for metric in model.metrics:
        if type(metric) is keras.metrics.Mean and metric.name.endswith("loss"):
            count = float(to_numpy(metric.count.value))
            if count not in (0.0, float(rows)):
                metric.total.assign(metric.total.value * (rows / count))
                metric.count.assign(float(rows))


def _values(model: Any) -> list[np.ndarray]:
    """Return the values of all variables. Those of metrics are the sums over all processes."""
    variables = _variables(model)
    values = {id(variable): to_numpy(variable.value) for variable in variables}
    sums = metric_sums([values[id(variable)] for variable in model.metrics_variables])
    values |= {id(variable): value for variable, value in zip(model.metrics_variables, sums, strict=True)}
    return [values[id(variable)] for variable in variables]


def _variables(model: Any) -> list[Any]:
    """Return all variables but the banks. The training bank is saved by key, and each inference starts fresh."""
    own = keras.Model.variables.fget(model)
    listed = [*own, *model.metrics_variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in listed}.values())


def _check_variables(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=False):
        if tuple(variable.shape) != value.shape:
            raise SpecMismatchError(
                f"Variable `{variable.path}` must have shape {tuple(variable.shape)} in a checkpoint. "
                f"Received: shape={value.shape}. It was written by another model."
            )
    if len(variables) != len(values):
        raise SpecMismatchError(
            f"A checkpoint of this model must hold {len(variables)} variables. Received: {len(values)}. "
            "It was written by another model."
        )


def _memory(callback: Any) -> Any:
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return callback.get_state()
    return {name: getattr(callback, name) for name in _remembered(callback) if hasattr(callback, name)}


def _remember(callback: Any, memory: Any) -> None:
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        callback.set_state(memory)
        return
    for name, value in memory.items():
        setattr(callback, name, value)


def _remembered(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _REMEMBERED if isinstance(callback, kind)), ())
