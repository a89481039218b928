"""The gates of LSTM and GRU layers, computed with NumPy from weights, inputs and the states before each step.

The inputs of a layer come from a second network with the same weights, whose further outputs they are. One call of it, on all
steps at once, needs no loop over time, because the state before each step is known.
"""

from typing import Any

import numpy as np
from keras import Model, layers, ops, tree
from numpy.typing import NDArray

from rnnstate.insight.watched import Watched
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import inputs_of
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]
_NAMES = {layers.LSTM: ("input", "forget", "cell", "output"), layers.GRU: ("update", "reset", "candidate")}
_NO_GATE = ("cell", "candidate")


def gate_values(model: Any, watched: Watched) -> dict[str, dict[str, Array]]:
    """Return the gates of each LSTM and GRU that is a layer of the network itself, `(rows, time, units)` each.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences of it.

    Returns:
        For each layer its gates by name: `input`, `forget` and `output`, or `update` and `reset`. The mapping is empty if
        there is no such layer, and layers that are called twice are left out.
    """
    found = [layer for layer in model.net.layers if type(layer) in _NAMES and _carried_once(model, layer)]
    if not found or watched.sample is None or watched.before is None:
        return {}
    inputs = _inputs(model, watched, found)
    return {
        layer.name: _gates(layer, x, watched.before[f"{layer.name}/h"])
        for layer, x in zip(found, inputs, strict=True)
    }


def _carried_once(model: Any, layer: Any) -> bool:
    names = [name for name in model.state_spec if name.partition("/")[0].startswith(layer.name)]
    return f"{layer.name}/h" in names and len(layer._inbound_nodes) == 1


def _inputs(model: Any, watched: Watched, found: list[Any]) -> list[Array]:
    """Return the inputs of layers at all steps, `(rows, time, features)` each."""
    net = model.net
    outputs = [*tree.flatten(net.outputs), *(layer.input for layer in found)]
    wider = StatefulModel(
        Model(inputs_of(net), outputs),
        carry_backward=model.carry_backward,
        carry=model.carry,
        attention_window=model.attention_window,
        time_mixing="allow",
    )
    rows, time = watched.valid.shape
    before = watched.before or {}
    state = State({name: before[name].reshape(rows * time, *before[name].shape[2:]) for name in wider.state_spec})
    x = watched.sample.map_x(  # type: ignore[union-attr]
        lambda part: part.reshape(rows * time, 1, *part.shape[2:]), lambda part: np.repeat(part, time, axis=0)
    )
    y, _ = wider.step(x, state)
    return [to_numpy(part).reshape(rows, time, -1) for part in tree.flatten(y)[-len(found) :]]


def _gates(layer: Any, x: Array, h: Array) -> dict[str, Array]:
    """Return the gates of a layer from its inputs `(rows, time, features)` and the h before each step."""
    kernel, recurrent, *rest = (np.asarray(to_numpy(weight), np.float64) for weight in layer.get_weights())
    # A GRU with `reset_after=True` has one bias for the inputs and one for h; both enter the sum.
    bias = np.sum(np.atleast_2d(rest[0]), axis=0) if rest else 0.0
    names = _NAMES[type(layer)]
    sums = np.split(x @ kernel + h @ recurrent + bias, len(names), axis=-1)
    return {
        name: to_numpy(layer.recurrent_activation(ops.convert_to_tensor(part.astype("float32"))))
        for name, part in zip(names, sums, strict=True)
        if name not in _NO_GATE
    }
