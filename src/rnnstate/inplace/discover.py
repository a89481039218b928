"""The state variables of a Keras model that keeps its state in its layers, found and named.

Keras gives the variables of h and c the same name in every layer, and keeps them in a plain list that any code may
overwrite. This module names each variable by its leaf, and reports a list whose entries were replaced (*rebound*).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import keras
from keras import tree

from rnnstate.errors import StateStructureError, UnsupportedModelError
from rnnstate.inplace.repair import CarryingLayer
from rnnstate.network.clone import is_container, sublayers
from rnnstate.ports.recurrent import is_recurrent, leaf_names
from rnnstate.state.spec import LeafSpec, StateSpec
from rnnstate.state.state import Array


@runtime_checkable
class ExplicitState(Protocol):
    """A model whose state is an argument and a result: `StatefulModel`, which this package cannot import."""

    kernels: str
    carry_backward: bool
    carry: Sequence[str] | None

    @property
    def net(self) -> Any:
        """The network inside the model."""

    @property
    def state_spec(self) -> StateSpec:
        """The leaves of the state."""


@dataclass
class StatefulLayer:
    """One layer that keeps state.

    Args:
        path: The path of the layer in the model.
        layer: The layer.
        variables: Its state variables `(batch, *shape)`, by local leaf name.
        initial: The initial value of each variable.
        rebound: A message for each variable that the user's code replaced.
    """

    path: str
    layer: Any
    variables: dict[str, Any]
    initial: list[Array]
    rebound: list[str] = field(default_factory=list)


def stateful_layers(model: Any) -> list[StatefulLayer]:
    """Return the layers of a model that keep their state, in the order of the model.

    Raises:
        StateStructureError: If no layer keeps its state.
        UnsupportedModelError: If the state variables do not exist yet, or the model is a `StatefulModel`.
    """
    if isinstance(model, ExplicitState):
        raise UnsupportedModelError(
            "The model must keep its state in its layers. Received: a StatefulModel, which keeps one row per sequence. "
            "Use `model.states.read(keys)`, `model.states.write(keys, state)` and `model.states.reset(keys)`."
        )
    found = [_described(path, layer) for path, layer in recurrent_layers(model) if keeps_state(layer)]
    if not found:
        others = sum(1 for _ in recurrent_layers(model))
        raise StateStructureError(
            f"The model must have a recurrent layer with `stateful=True`. Received: `{model.name}` with {others} recurrent "
            "layers, none of which keeps its state. Wrap it: `rnnstate.StatefulModel(model)`."
        )
    _report_shared(found)
    return found


def recurrent_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the layer of every recurrent layer, also in subclassed models and wrappers."""
    for layer in model.layers if is_container(model) else _direct(model):
        path = f"{prefix}{layer.name}"
        if is_recurrent(layer) or isinstance(layer, CarryingLayer):
            yield path, layer
        else:
            yield from recurrent_layers(layer, f"{path}/")


def _direct(layer: Any) -> list[Any]:
    """Return the layers directly inside `layer`, without the layers inside those."""
    nested = {id(inner) for child in sublayers(layer) for inner in sublayers(child)}
    return [child for child in sublayers(layer) if id(child) not in nested]


def keeps_state(layer: Any) -> bool:
    """Whether the layer remembers its state from call to call."""
    if isinstance(layer, keras.layers.Bidirectional):
        return bool(layer.forward_layer.stateful)
    return isinstance(layer, CarryingLayer) or bool(layer.stateful)


def _described(path: str, layer: Any) -> StatefulLayer:
    """Return a layer with its variables, initial values and rebound variables."""
    if isinstance(layer, CarryingLayer):
        return StatefulLayer(path, layer, layer.state_variables, layer.initial_values())
    parts = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else [layer]
    if any(part.states is None for part in parts):
        raise UnsupportedModelError(
            f"Layer `{path}` must be built. Received: a layer without state variables. "
            "Start the model with `keras.Input(batch_shape=(batch, time, features))`."
        )
    values = [value for part in parts for value in tree.flatten(part.states)]
    initial = [leaf for part in parts for leaf in tree.flatten(part.get_initial_state(batch_size=_batch_size(part)))]
    names = leaf_names(layer)
    if len(values) != len(names):
        return StatefulLayer(path, layer, {}, initial, [_rebound(path, names, names[0], values)])
    rebound = [
        _rebound(path, names, name, value)
        for name, value, expected in zip(names, values, initial, strict=True)
        if not _is_own(value, expected)
    ]
    return StatefulLayer(path, layer, dict(zip(names, values, strict=True)), initial, rebound)


def _batch_size(layer: Any) -> int:
    """Return the batch size for which a stateful layer was built. Its list of states may hold anything by now."""
    return int(layer.input.shape[0]) if _has_input(layer) else _own_batch_size(layer)


def _has_input(layer: Any) -> bool:
    try:
        return layer.input.shape[0] is not None
    except (AttributeError, ValueError):
        return False


def _own_batch_size(layer: Any) -> int:
    own = [value for value in tree.flatten(layer.states) if _made_by_keras(value)]
    values = own or tree.flatten(layer.states)
    return int(values[0].shape[0])


def _made_by_keras(value: Any) -> bool:
    # Keras creates state variables inside the layer, with the path `.../lstm/rnn_state`. The path of a variable that a
    # user creates is just its name.
    return isinstance(value, keras.Variable) and value.path.endswith("/rnn_state")


def _is_own(value: Any, expected: Array) -> bool:
    return _made_by_keras(value) and tuple(value.shape) == tuple(expected.shape)


def _rebound(path: str, names: list[str], name: str, value: Any) -> str:
    kind = f"a variable named `{value.name}`" if isinstance(value, keras.Variable) else type(value).__name__
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return (
        f"`{path}.states[{names.index(name)}]` (leaf `{path}/{name}`) must be the variable that the layer made. "
        f"Received: {kind}{shape}, bound to it later. A compiled step does not see it. Build the model again, and set "
        "states with `rnnstate.write(model, {...})`."
    )


def _report_shared(found: list[StatefulLayer]) -> None:
    """Report a variable that stands for two leaves. One leaf was rebound to it, and nothing tells which one."""
    owners: dict[int, tuple[StatefulLayer, str]] = {}
    for layer in found:
        for name, variable in layer.variables.items():
            first, other = owners.setdefault(id(variable), (layer, name))
            if (first.layer, other) != (layer.layer, name):
                layer.rebound.append(
                    f"The leaves `{first.path}/{other}` and `{layer.path}/{name}` must be two different variables. "
                    f"Received: one variable of shape {tuple(variable.shape)} for both: `.states` of one was bound to that "
                    "of the other. Build the model again, and set states with `rnnstate.write(model, {...})`."
                )


def leaves_of(layers: list[StatefulLayer]) -> dict[str, Any]:
    """Return all state variables by leaf name.

    Raises:
        StateStructureError: If a variable was rebound.
    """
    for layer in layers:
        if layer.rebound:
            raise StateStructureError(layer.rebound[0])
    return {f"{layer.path}/{name}": value for layer in layers for name, value in layer.variables.items()}


def spec_of(leaves: dict[str, Any]) -> StateSpec:
    """Return the spec of state variables."""
    return StateSpec({name: LeafSpec(tuple(v.shape[1:]), v.dtype) for name, v in leaves.items()})


def is_ignored(model: Any, variable: Any) -> bool:
    """Whether a compiled step neither reads nor writes the variable: JAX carries only the listed variables of a model."""
    return keras.config.backend() == "jax" and all(variable is not listed for listed in model.variables)
