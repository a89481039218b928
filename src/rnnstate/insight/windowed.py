"""A run window by window, for networks with a layer that runs backward, such as `Bidirectional`.

Such a network has no output after a single step, because its backward layer starts at the end of a window. The layers that
carry have a state after every step nevertheless. The network runs window by window, the inputs of each carrying layer are
recorded, and then each layer alone runs over its inputs:

    network     | window 0 | window 1 | ...     outputs, and inputs of each layer
    layer       step 0, step 1, ...             its state before and after every step
"""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from rnnstate.errors import UnsupportedModelError
from rnnstate.inplace.discover import recurrent_layers
from rnnstate.insight.sample import Sample
from rnnstate.messages import quoted
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import carrying_clone
from rnnstate.network.stand_in import PortLayer, stand_in_for
from rnnstate.network.step import run
from rnnstate.ports.recurrent import runs_backward
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]
Leaves = dict[str, Array]


@dataclass
class LayerRun:
    """One layer that carries: itself, and what it was given.

    Args:
        layer: A recurrent layer that runs forward.
        x: Its inputs, one `(rows, steps, features)` for each window.
        masks: Its masks `(rows, steps)`, or `None`, for each window.
    """

    layer: Any
    x: list[Array] = field(default_factory=list)
    masks: list[Array | None] = field(default_factory=list)

    @property
    def inputs(self) -> Array:
        """The inputs at all steps, `(rows, time, features)`."""
        return np.concatenate(self.x, axis=1)


def needs_windows(net: Any) -> bool:
    """Return whether a layer of a network runs backward, alone or as a half of `Bidirectional`."""
    every = [layer for _, layer in recurrent_layers(net)]
    return any(runs_backward(layer) or isinstance(layer, keras.layers.Bidirectional) for layer in every)


def run_windows(model: Any, sample: Sample) -> tuple[Any, Leaves, Leaves, dict[str, LayerRun]]:
    """Run some sequences window by window.

    Args:
        model: A `StatefulModel` that does not carry a backward layer.
        sample: The data, without resets and gaps.

    Returns:
        The outputs `(rows, time, ...)`, the leaves before and after every step, and what each layer was given, by the path
        of its leaves.

    Raises:
        UnsupportedModelError: If the backward direction is carried, or another layer than a recurrent one carries.
    """
    runs: dict[str, LayerRun] = {}
    # Only the loop below records: Keras calls the layers on symbols too, to build the clone.
    carrier, _ = carrying_clone(
        model.net, model.carry_backward, model.carry, model.attention_window, stand_in=_recorder(runs)
    )
    runs.clear()
    start = model.initial_state(len(sample.keys), sample.observed_at(0))
    time, state, outputs = sample.valid.shape[1], start, []
    for first in range(0, time, sample.length):
        steps = slice(first, min(first + sample.length, time))
        x = sample.map_x(lambda part: ops.convert_to_tensor(part[:, steps]), ops.convert_to_tensor)  # noqa: B023
        valid = None if sample.valid[:, steps].all() else ops.convert_to_tensor(sample.valid[:, steps])
        y, state = run(carrier, x, state, valid, training=False)
        outputs.append(y)
    _check(model, runs)
    before, after = _states(start.numpy(), runs, sample.valid)
    return outputs, before, after, runs


def _recorder(runs: dict[str, LayerRun]) -> Any:
    """Return a maker of stand-ins that note what they are given in `runs`."""

    class Recorder(PortLayer):
        def call(self, x: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
            both_ways = isinstance(self.layer, keras.layers.Bidirectional)
            place = f"{self.place}/forward" if both_ways else self.place
            found = runs.setdefault(place, LayerRun(self.layer.forward_layer if both_ways else self.layer))
            found.x.append(x)
            found.masks.append(mask)
            return super().call(x, initial_state, mask, training)

    def stand_in(layer: Any, port: Any) -> Any:
        recurrent = isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))
        return (Recorder if recurrent else stand_in_for)(layer, port)

    return stand_in


def _check(model: Any, runs: dict[str, LayerRun]) -> None:
    """Raise if the state of a layer is not known, and turn the rest of what was noted into arrays."""
    for found in runs.values():
        found.x = [to_numpy(part) for part in found.x]
        found.masks = [None if mask is None else to_numpy(mask) for mask in found.masks]
    unknown = [name for name in model.state_spec if not any(name.startswith(f"{place}/") for place in runs)]
    if unknown or any("/backward/" in name for name in model.state_spec):
        raise UnsupportedModelError(
            "In a network with a layer that runs backward, the layers that carry must be recurrent and run forward. "
            f"Received: {quoted(unknown or list(model.state_spec), 4)}. Use a network without backward layers."
        )


def _states(start: Any, runs: dict[str, LayerRun], valid: Array) -> tuple[Leaves, Leaves]:
    """Run each layer over its inputs, and return its leaves before and after every step, `(rows, time, *shape)`."""
    before: Leaves = {}
    after: Leaves = {}
    for place, found in runs.items():
        names = {name: name.removeprefix(f"{place}/") for name in start if name.startswith(f"{place}/")}
        if not names:
            continue  # a layer that runs backward, or is not carried
        alone = StatefulModel(keras.Sequential([keras.Input((None, *found.inputs.shape[2:])), found.layer]))
        own = {f"{found.layer.name}/{short}": start[name] for name, short in names.items()}
        masks = [np.ones(x.shape[:2], bool) if m is None else m for x, m in zip(found.x, found.masks, strict=True)]
        _, _, trace = alone.trace(found.inputs, State(own), mask=np.concatenate(masks, axis=1) & valid)
        for name, short in names.items():
            after[name] = to_numpy(trace[f"{found.layer.name}/{short}"])
            before[name] = np.concatenate([start[name][:, None], after[name][:, :-1]], axis=1)
    return before, after
