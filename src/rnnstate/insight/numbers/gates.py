"""The gates of LSTM and GRU layers, computed with NumPy from weights, inputs and the states before each step.

The inputs of a layer are recorded in one call of the network on all steps at once. This needs no loop over time, because the
state before each step is known.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from rnnstate.insight.watched import Watched
from rnnstate.network.clone import carrying_clone
from rnnstate.network.stand_in import PortLayer, stand_in_for
from rnnstate.network.step import run
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]
_NAMES = {layers.LSTM: ("input", "forget", "cell", "output"), layers.GRU: ("update", "reset", "candidate")}
_NO_GATE = ("cell", "candidate")


def gate_values(model: Any, watched: Watched) -> dict[str, dict[str, Array]]:
    """Return the gates of each LSTM and GRU that carries, `(rows, time, units)` each.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences of it.

    Returns:
        For the path of each layer its gates by name: `input`, `forget` and `output`, or `update` and `reset`. The mapping is
        empty if there is no such layer. Layers that are called twice, and those inside `Bidirectional`, are left out.
    """
    if watched.sample is None or watched.before is None:
        return {}
    calls = _recorded(model, watched)
    rows, time = watched.valid.shape
    return {
        place: _gates(layer, to_numpy(x[0]).reshape(rows, time, -1), watched.before[f"{place}/h"])
        for place, (layer, x) in calls.items()
        if len(x) == 1 and f"{place}/h" in watched.before
    }


def time_scales(forget: Array, valid: Array) -> Array:
    """Return the time scale -1 / ln(mean forget gate) of each unit in steps, `(units,)`.

    Args:
        forget: The forget gates `(rows, time, units)`; of a GRU, the update gates.
        valid: Which steps hold data, bool `(rows, time)`.

    Example:

    >>> time_scales(np.full((1, 3, 1), 0.9), np.ones((1, 3), bool)).round(2).tolist()
    [9.49]

    References:
        - Mahto et al., "Multi-timescale representation learning in LSTM language models", ICLR 2021, arXiv:2009.12727.
    """
    mean = np.clip(forget[valid].astype(np.float64).mean(axis=0), 1e-12, 1 - 1e-12)
    scales: Array = -1 / np.log(mean)
    return scales


def _recorded(model: Any, watched: Watched) -> dict[str, tuple[Any, list[Array]]]:
    """Return each LSTM and GRU by its path, with the inputs of its calls, `(rows * time, 1, features)`."""
    calls: dict[str, tuple[Any, list[Array]]] = {}
    carrier, _ = carrying_clone(
        model.net, model.carry_backward, model.carry, model.attention_window, stand_in=_recorder(calls)
    )
    calls.clear()  # Keras has called the layers on symbols to build the clone
    rows, time = watched.valid.shape
    before = watched.before or {}
    state = State(
        {name: ops.convert_to_tensor(leaf.reshape(rows * time, *leaf.shape[2:])) for name, leaf in before.items()}
    )
    x = watched.sample.map_x(  # type: ignore[union-attr]
        lambda part: ops.convert_to_tensor(part.reshape(rows * time, 1, *part.shape[2:])),
        lambda part: ops.convert_to_tensor(np.repeat(part, time, axis=0)),
    )
    run(carrier, x, state, None, training=False)
    return calls


def _recorder(calls: dict[str, tuple[Any, list[Array]]]) -> Callable[[Any, Any], PortLayer]:
    """Return a maker of stand-ins that note their inputs in `calls`."""

    class Recorder(PortLayer):
        def call(self, x: Any, *args: Any, **kwargs: Any) -> Any:
            calls.setdefault(self.place, (self.layer, []))[1].append(x)
            return super().call(x, *args, **kwargs)

    return lambda layer, port: (Recorder if type(layer) in _NAMES else stand_in_for)(layer, port)


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
