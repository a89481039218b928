"""From a Keras network to one whose state is explicit: every layer with a memory is replaced by its port.

The clone shares all layers and weights with the network it came from. Paths of layers name the leaves:
`encoder/lstm` is the layer `lstm` of the nested model `encoder`.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree

from rnnstate.errors import UnsupportedModelError
from rnnstate.network.scope import StateScope, active_scope
from rnnstate.ports.recurrent import FreshBackwardPort, is_recurrent, runs_backward
from rnnstate.ports.registry import find_port
from rnnstate.ports.scan import step_by_step
from rnnstate.state.state import Array


class PortLayer(keras.Layer):
    """Stands in the network for one layer with a memory, shares its weights, and runs it through its port.

    Args:
        layer: The layer to stand for.
        port: Its port.
    """

    def __init__(self, layer: Any, port: Any) -> None:
        super().__init__(
            name=layer.name, dtype=layer.dtype_policy, activity_regularizer=getattr(layer, "activity_regularizer", None)
        )
        self.layer = layer
        self.port = port
        self.place = layer.name
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, x: Array, initial_state: Any = None, mask: Array | None = None, training: bool = False) -> Array:
        if initial_state is not None:
            raise UnsupportedModelError(
                f"Layer `{self.place}` must take its state from the sequence it belongs to. Received: a network that "
                "calls it with `initial_state=`. Remove that argument, and give the state to `StatefulModel.step`."
            )
        scope = active_scope() or StateScope()
        prefix = scope.enter(self.place)
        state = scope.take(prefix, self.port, self.layer, ops.shape(tree.flatten(x)[0])[0])
        mask = _both(mask, _aligned(scope.mask, x))
        y, final = self._run(x, state, mask, training, _aligned(scope.reset, x), scope.initial_of(prefix))
        scope.put(prefix, final)
        return y

    def _run(self, x: Array, state: Any, mask: Any, training: bool, reset: Array | None, initial: Any) -> Any:
        if reset is None:
            return self.port.call(x, state, mask=mask, training=training)
        if "reset" in inspect.signature(self.port.call).parameters:
            return self.port.call(x, state, mask=mask, training=training, reset=reset, initial=initial)
        return step_by_step(self.port, x, state, mask, training, reset, initial)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        # By its own layer, which may have no `compute_output_shape`: Keras then runs it on symbols.
        return self.layer.compute_output_spec(x)


def _aligned(flags: Array | None, x: Array) -> Array | None:
    """Return the flags of the window, `(batch, time)`, if `x` still has its time axis: some layers drop a mask."""
    shape = tree.flatten(x)[0].shape
    return flags if flags is not None and len(shape) > 2 and shape[1] == flags.shape[1] else None


def _both(one: Array | None, other: Array | None) -> Array | None:
    if one is None or other is None:
        return one if other is None else other
    return ops.logical_and(one, other)


def carrying_clone(
    net: Any, stand_in: Callable[[Any, Any], Any] = PortLayer, carry_backward: bool = False
) -> tuple[Any, list[Any]]:
    """Clone a network with a stand-in for every layer with a memory.

    Args:
        net: A built Functional or Sequential network, nested ones included.
        stand_in: Makes the stand-in from the layer and its port.
        carry_backward: Whether layers that run backward are carried too.

    Returns:
        The clone, which shares all layers and weights, and its stand-ins.

    Raises:
        UnsupportedModelError: If the network is subclassed, not built, or has recurrent layers out of reach.
    """
    check_supported(net)

    def replace(layer: Any) -> Any:
        if isinstance(layer, PortLayer):  # the network is itself such a clone
            layer = layer.layer
        port = find_port(layer, carry_backward)
        if port is not None:
            return stand_in(layer, port)
        return stand_in(layer, _fresh_backward(layer)) if runs_backward(layer) else layer

    clone = keras.models.clone_model(net, clone_function=replace, recursive=True)
    stand_ins = []
    for path, layer in walk(clone):
        if isinstance(layer, PortLayer):
            layer.place = path
            stand_ins.append(layer)
    return clone, stand_ins


def _fresh_backward(layer: Any) -> FreshBackwardPort:
    """Return the port of a backward layer that starts fresh in each window."""
    if not layer.stateful:
        return FreshBackwardPort(layer)
    raise UnsupportedModelError(
        f"Layer `{layer.name}` runs backward, so its state cannot be carried from window to window. "
        "Received: stateful=True. Set `stateful=False` for this layer: it then starts fresh in each window. "
        "`StatefulModel(..., carry_backward=True)` carries it as Keras does."
    )


def inputs_of(net: Any) -> Any:
    """Return the symbolic inputs of a network in the structure in which it takes them."""
    return net.inputs[0] if isinstance(net, keras.Sequential) else net.input


def walk(net: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every layer of a network, nested ones included, with its path."""
    for layer in net.layers:
        path = f"{prefix}{layer.name}"
        if is_container(layer):
            yield from walk(layer, f"{path}/")
        else:
            yield path, layer


def is_container(layer: Any) -> bool:
    """True for Functional and Sequential models, whose layers can be reached; false for subclassed ones."""
    if not isinstance(layer, keras.Model):
        return False
    owner = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return owner.__module__.startswith("keras.") and owner.__name__ in ("Functional", "Sequential")


def check_supported(net: Any) -> None:
    """Raise unless every recurrent layer of the network can be reached.

    Raises:
        UnsupportedModelError: If the network is subclassed, not built, or hides recurrent layers in other layers.
    """
    if not is_container(net):
        raise UnsupportedModelError(
            "The network must be a Functional or Sequential Keras model, whose layers can be reached. "
            f"Received: {_describe(net)}. Build it with `keras.Model(inputs, outputs)` or `keras.Sequential([...])`; "
            "the layers of a subclassed model can be called in such a graph as they are."
        )
    if not net.built:
        raise UnsupportedModelError(
            f"The network must be built. Received: `{net.name}`, which knows no input shape yet. "
            "Start it with `keras.Input((None, features))`."
        )
    for path, layer in walk(net):
        _check_layer(path, layer)


def _check_layer(path: str, layer: Any) -> None:
    # A time-distributed layer starts anew at each step, so a recurrent layer inside it remembers nothing.
    if isinstance(layer, PortLayer) or find_port(layer) is not None or runs_backward(layer):
        return
    hidden = [inner for inner in sublayers(layer) if is_recurrent(inner)]
    if isinstance(layer, keras.layers.TimeDistributed):
        hidden = [inner for inner in hidden if inner.stateful]
    if hidden:
        raise UnsupportedModelError(
            f"Every recurrent layer must be a layer of the network itself. Received: `{hidden[0].name}` inside "
            f"`{path}` ({type(layer).__name__}), where its state cannot be reached. Move it into the network's graph, or "
            f"register a port: `rnnstate.register_port({type(layer).__name__}, YourPort)`."
        )


def sublayers(layer: Any) -> Iterator[Any]:
    """Yield the layers that a layer keeps as attributes, at any depth."""
    seen = {id(layer)}
    queue = [layer]
    while queue:
        for child in _layers_in(list(vars(queue.pop()).values())):
            if id(child) not in seen:
                seen.add(id(child))
                queue.append(child)
                yield child


def _layers_in(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.Layer):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _layers_in(part)


def _describe(net: Any) -> str:
    if isinstance(net, keras.Model):
        return f"`{net.name}`, a subclassed model of class {type(net).__name__}"
    return f"{type(net).__name__}"
