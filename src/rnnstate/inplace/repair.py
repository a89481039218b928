"""`repair`: the same model with stateful layers that carry in `fit` and `predict` on every backend."""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import StateStructureError
from rnnstate.network.clone import carrying_clone
from rnnstate.network.stand_in import PortLayer
from rnnstate.ports.registry import find_port
from rnnstate.state.state import Array, to_numpy


class _Kept:
    """Holds variables where Keras does not look for weights.

    A repaired model therefore has the same `get_weights` as the original.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}


@keras.saving.register_keras_serializable("rnnstate")
class CarryingLayer(PortLayer):
    """Stands for one stateful layer, shares its weights, and keeps its state in variables that every backend carries.

    Args:
        layer: A recurrent layer with `stateful=True`.
        port: The port that runs the layer. The default is the registered port of its class.
    """

    def __init__(self, layer: Any, port: Any = None, **kwargs: Any) -> None:
        found: Any = port or find_port(layer)  # a stateful layer that can be repaired has a port
        super().__init__(layer, found, **kwargs)
        self._kept = _Kept()

    @property
    def state_variables(self) -> dict[str, Any]:
        """The state variables by local leaf name, `(batch, *shape)`."""
        return self._kept.variables

    @property
    def variables(self) -> list[Any]:
        kept = getattr(self, "_kept", None)
        return [*super().variables, *(kept.variables.values() if kept else ())]

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        initial = self.port.initial(input_shape[0])
        for name, leaf in self.port.spec(self.layer).items():
            self._kept.variables[name] = keras.Variable(
                to_numpy(initial[name]), dtype=leaf.dtype, trainable=False, autocast=False, name=name.replace("/", "_")
            )

    def initial_values(self) -> list[Array]:
        """Return the initial values of the state variables."""
        batch_size = next(iter(self.state_variables.values())).shape[0]
        return list(self.port.initial(batch_size).values())

    def call(self, x: Array, initial_state: Any = None, mask: Array | None = None, training: bool = False) -> Array:
        # A copy, because PyTorch refuses to differentiate through a variable that is written to afterwards.
        state = {name: ops.copy(ops.convert_to_tensor(variable)) for name, variable in self.state_variables.items()}
        y, final = self.port.call(x, state, mask=mask, training=training)
        for name, variable in self.state_variables.items():
            variable.assign(ops.cast(ops.stop_gradient(final[name]), variable.dtype))
        return y

    def save_own_variables(self, store: Any) -> None:
        for name, variable in self.state_variables.items():
            store[name.replace("/", ".")] = to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        for name, variable in self.state_variables.items():
            variable.assign(np.asarray(store[name.replace("/", ".")]))

    def get_config(self) -> dict[str, Any]:
        return {"layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CarryingLayer":
        return cls(keras.saving.deserialize_keras_object(config["layer"]))


def repair(model: Any) -> Any:
    """Return the same model with stateful layers that really carry on this backend.

    Stock stateful layers carry nothing in `fit`, `evaluate` and `predict` on JAX. On PyTorch, `fit` fails. On no backend
    does Keras save their state. The repaired model shares all weights with `model`, carries on every backend, and saves
    its state. As in Keras, its batch size is fixed, and `evaluate` and `predict` move the state from which `fit`
    continues. `StatefulModel` has neither limit.

    Args:
        model: A built Functional or Sequential model with `stateful=True` layers. It is not changed.

    Returns:
        A new model, which is not compiled yet. A backward direction starts fresh in each call; `StatefulModel` can carry it.

    Raises:
        StateStructureError: If no layer is stateful.
        UnsupportedModelError: If the model is subclassed, or a stateful layer sits where it cannot be replaced.

    Example:

    >>> net = keras.Sequential([
    ...     keras.Input(batch_shape=(2, None, 1)), keras.layers.LSTM(3, stateful=True, name="lstm")
    ... ])
    >>> model = repair(net)
    >>> first = model.predict(np.ones((2, 4, 1)), verbose=0)
    >>> bool((model.predict(np.ones((2, 4, 1)), verbose=0) != first).any())
    True
    """
    clone, stand_ins = carrying_clone(model, stand_in=_carrying, join=False, strided=False)
    if not stand_ins:
        raise StateStructureError(
            f"The model must have a recurrent layer with `stateful=True`. Received: `{model.name}` without any. "
            "Wrap it: `rnnstate.StatefulModel(model)`."
        )
    return clone


def _carrying(layer: Any, port: Any) -> Any:
    """Return the stand-in of a stateful layer, or the layer itself if it keeps no state."""
    inner = getattr(layer, "forward_layer", layer)
    return CarryingLayer(layer, port) if getattr(inner, "stateful", False) else layer
