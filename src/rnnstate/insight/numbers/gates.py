"""The gates of LSTM and GRU layers and cells, computed with NumPy from weights, inputs and the states before each step.

The inputs of a layer are recorded in one call of the network on all steps at once. This needs no loop over time, because the
state before each step is known.
"""

from collections.abc import Callable, Iterator
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
_NAMES = {layers.LSTMCell: ("input", "forget", "cell", "output"), layers.GRUCell: ("update", "reset", "candidate")}
_NO_GATE = ("cell", "candidate")


def gate_values(model: Any, watched: Watched) -> dict[str, dict[str, Array]]:
    """Return the gates of each LSTM and GRU that carries, `(rows, time, units)` each.

    Stacks, `RNN([cells])`, and the forward half of `Bidirectional` have gates too.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences of it.

    Returns:
        For the path of each layer, or of each cell of a stack, its gates by name: `input`, `forget` and `output`, or
        `update` and `reset`. The mapping is empty if there is no such layer. Layers that are called twice are left out.
    """
    if watched.sample is None or watched.before is None:
        return {}
    if watched.runs is not None:
        given = {place: (found.layer, found.inputs) for place, found in watched.runs.items()}
    else:
        rows, time = watched.valid.shape
        calls = _recorded(model, watched)
        given = {
            place: (layer, to_numpy(x[0]).reshape(rows, time, -1)) for place, (layer, x) in calls.items() if len(x) == 1
        }
    return {
        at: _gates(cell, x, watched.before[f"{at}/h"])
        for place, (layer, inputs) in given.items()
        for at, cell, x in _cells(place, layer, inputs, watched)
        if type(cell) in _NAMES and f"{at}/h" in watched.before
    }


def _cells(place: str, layer: Any, x: Array, watched: Watched) -> Iterator[tuple[str, Any, Array]]:
    """Yield each cell of a layer with the path of its leaves and its inputs `(rows, time, features)`.

    The cells of a stack run one after another in each step: a cell is given the h of the cell before it.
    """
    if not isinstance(layer.cell, layers.StackedRNNCells):
        yield place, layer.cell, x
        return
    for number, cell in enumerate(layer.cell.cells):
        yield f"{place}/{number}", cell, x
        if f"{place}/{number}/h" not in watched.leaves:
            return  # a cell of another kind, whose output is not known
        x = watched.leaves[f"{place}/{number}/h"]


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
    """Return each recurrent layer by its path, with the inputs of its calls, `(rows * time, 1, features)`."""
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

    return lambda layer, port: (Recorder if isinstance(layer, layers.RNN) else stand_in_for)(layer, port)


def _gates(cell: Any, x: Array, h: Array) -> dict[str, Array]:
    """Return the gates of a cell from its inputs `(rows, time, features)` and the h before each step."""
    kernel, recurrent, *rest = (np.asarray(to_numpy(weight), np.float64) for weight in cell.get_weights())
    # A GRU with `reset_after=True` has one bias for the inputs and one for h; both enter the sum.
    bias = np.sum(np.atleast_2d(rest[0]), axis=0) if rest else 0.0
    names = _NAMES[type(cell)]
    sums = np.split(x @ kernel + h @ recurrent + bias, len(names), axis=-1)
    return {
        name: to_numpy(cell.recurrent_activation(ops.convert_to_tensor(part.astype("float32"))))
        for name, part in zip(names, sums, strict=True)
        if name not in _NO_GATE
    }
