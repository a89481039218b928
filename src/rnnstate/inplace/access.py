"""`read`, `write`, `reset`: checked access to the state of a Keras model with stateful layers.

The variables stay the same and get new values, as `K.set_value` did in older versions of Keras. All values are checked
before the first variable changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from rnnstate.errors import CarryError, StateShapeError
from rnnstate.inplace.discover import is_ignored, leaves_of, spec_of, stateful_layers
from rnnstate.state.checks import checked
from rnnstate.state.state import Array, State, to_numpy


def read(model: Any) -> State:
    """Return the state of a model's stateful layers.

    Args:
        model: A Keras model with `stateful=True` layers. On JAX it must be a model that `repair` returned.

    Returns:
        A `State` of NumPy arrays. Each leaf is `(batch, *shape)` and has the path of its layer in its name.

    Raises:
        StateStructureError: If no layer is stateful, or a state was rebound.
        CarryError: If the model's compiled step ignores the state.

    Example:

    >>> net = keras.Sequential(
    ...     [keras.Input(batch_shape=(2, None, 1)), keras.layers.GRU(3, stateful=True, name="gru")]
    ... )
    >>> model = repair(net)
    >>> {name: leaf.shape for name, leaf in read(model).items()}
    {'gru/h': (2, 3)}
    """
    return State({name: np.array(to_numpy(variable)) for name, variable in _variables(model).items()})


def write(model: Any, state: Mapping[str, Array], rows: Sequence[int] | None = None) -> None:
    """Set the state of a model's stateful layers. If one leaf is wrong, none changes.

    Args:
        model: A Keras model with `stateful=True` layers. On JAX it must be a model that `repair` returned.
        state: Some or all leaves: `(batch, *shape)`, or `(len(rows), *shape)` if `rows` is given.
        rows: The rows of the batch to set, as row numbers or a boolean array `(batch,)`. The default is all rows.

    Raises:
        StateStructureError: If a leaf is unknown, no layer is stateful, or a state was rebound.
        StateShapeError: If a leaf has the wrong shape, or a row does not exist.
        StateValueError: If the dtype of a leaf is not floating, or a value is not finite.
        CarryError: If the model's compiled step ignores the state.

    Example:

    >>> net = keras.Sequential(
    ...     [keras.Input(batch_shape=(2, None, 1)), keras.layers.GRU(3, stateful=True, name="gru")]
    ... )
    >>> model = repair(net)
    >>> write(model, {"gru/h": [[0.1, 0.2, 0.3]]}, rows=[1])
    >>> read(model)["gru/h"].tolist()[0]
    [0.0, 0.0, 0.0]
    """
    variables = _variables(model)
    batch_size = next(iter(variables.values())).shape[0]
    index = _row_index(rows, batch_size)
    given = checked(spec_of(variables), state, batch_size=len(index), partial=True)
    values = {}
    for name, value in given.items():
        whole = np.array(to_numpy(variables[name]))
        whole[index] = to_numpy(value)
        values[name] = ops.convert_to_tensor(whole, dtype=variables[name].dtype)
    for name, tensor in values.items():
        variables[name].assign(tensor)


def reset(model: Any, rows: Sequence[int] | None = None) -> None:
    """Reset the stateful layers of a model to their initial state.

    Keras' own `reset_state` writes zeros even if the initial state of the cell is not zero, and it fails for stacked cells.

    Args:
        model: A Keras model with `stateful=True` layers. On JAX it must be a model that `repair` returned.
        rows: The rows of the batch to reset, as row numbers or a boolean array `(batch,)`. The default is all rows.

    Raises:
        StateStructureError: If no layer is stateful, or a state was rebound.
        StateShapeError: If a row does not exist.
        CarryError: If the model's compiled step ignores the state.

    Example:

    >>> net = keras.Sequential(
    ...     [keras.Input(batch_shape=(2, None, 1)), keras.layers.GRU(3, stateful=True, name="gru")]
    ... )
    >>> model = repair(net)
    >>> write(model, {"gru/h": np.ones((2, 3))})
    >>> reset(model, rows=[0])
    >>> read(model)["gru/h"].tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    variables = _variables(model)
    initial = [to_numpy(value) for layer in stateful_layers(model) for value in layer.initial]
    index = _row_index(rows, initial[0].shape[0])
    write(model, {name: value[index] for name, value in zip(variables, initial, strict=True)}, rows)


def _variables(model: Any) -> dict[str, Any]:
    """Return the up-to-date state variables of a model, by leaf.

    Raises:
        CarryError: If a compiled step would ignore them.
    """
    variables = leaves_of(stateful_layers(model))
    ignored = [name for name, variable in variables.items() if is_ignored(model, variable)]
    if ignored:
        raise CarryError(
            "The state must be part of the model's compiled step. Received: a model with stock stateful layers, whose state "
            f"JAX compiles in as constants, first leaf `{ignored[0]}`. `fit` and `predict` would ignore every write. "
            "Use `model = rnnstate.repair(model)`, which shares all weights."
        )
    if hasattr(
        model, "jax_state_sync"
    ):  # during `fit` on JAX the variables lag behind until Keras is asked to sync them
        model.jax_state_sync()
    return variables


def _row_index(rows: Any, batch_size: int) -> np.ndarray:
    """Return the row numbers `(rows,)` that `rows` stands for."""
    if rows is None:
        return np.arange(batch_size)
    index = np.atleast_1d(np.asarray(rows))
    if index.dtype == bool and index.shape == (batch_size,):
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu" or index.ndim != 1:
        raise StateShapeError(
            f"`rows` must be row numbers or a boolean of shape ({batch_size},). "
            f"Received: dtype={index.dtype}, shape={index.shape}."
        )
    outside = index[(index < 0) | (index >= batch_size)]
    if outside.size or len(np.unique(index)) != len(index):
        received = f"row {outside[0]}" if outside.size else f"rows {index.tolist()[:6]}, some of them twice"
        raise StateShapeError(f"`rows` must be distinct and lie in 0 to {batch_size - 1}. Received: {received}.")
    return index
