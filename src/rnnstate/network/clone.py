"""The clone of a Keras network in which a stand-in replaces each layer that has a memory.

The clone shares all layers and weights with the original network. The path of a layer begins the names of its leaves:
`encoder/lstm` is the layer `lstm` of the nested model `encoder`.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras
from keras import tree

from rnnstate.errors import UnsupportedModelError
from rnnstate.messages import quoted
from rnnstate.network.left_padding import left_padded, port_after_padding
from rnnstate.network.stand_in import PortLayer, stand_in_for
from rnnstate.ports.attention import Window
from rnnstate.ports.convolution import strides_of
from rnnstate.ports.fresh import FreshPort
from rnnstate.ports.recurrent import BackwardPort, is_recurrent, runs_backward
from rnnstate.ports.registry import find_port
from rnnstate.ports.running_sum import RunningSum, RunningSumPort, sums_steps
from rnnstate.state.spec import is_at


class Network(Protocol):
    """A built Functional or Sequential Keras model, as far as this package uses it."""

    name: str
    built: bool
    layers: list[Any]
    inputs: list[Any]

    def __call__(self, inputs: Any, training: bool | None = None) -> Any:
        """Compute the outputs."""

    def add_loss(self, loss: Any) -> None:
        """Add losses to the losses of the model."""


def carrying_clone(
    net: Network,
    carry_backward: bool = False,
    carry: Sequence[str] | None = None,
    attention_window: Window = None,
    stand_in: Callable[[Any, Any], PortLayer] = stand_in_for,
    join: bool = True,
    strided: bool = True,
) -> tuple[Network, list[PortLayer]]:
    """Clone a network with a stand-in for every layer with a memory.

    Args:
        net: A built Functional or Sequential network. It may contain nested networks.
        stand_in: Makes the stand-in from the layer and its port.
        carry_backward: Whether layers that run backward are carried too.
        carry: The paths of the layers, or of the networks nested in the network, that carry. The other layers start
            fresh in each window. `None` means all.
        attention_window: How many earlier steps attention layers remember: one number, or one by layer name.
        join: Whether stand-ins may also take the place of operations, and of zeros together with the layer after them.
        strided: Whether layers with strides over time carry. Windows must then be multiples of the total stride.

    Returns:
        The clone, which shares all layers and weights, and the list of its stand-ins.

    Raises:
        UnsupportedModelError: If the network is subclassed, not built, or has recurrent layers out of reach, or if
            `carry` names a layer that has no memory to carry.
    """
    check_supported(net)
    padded = {id(layer): zeros for part in containers(net) if join for layer, zeros in left_padded(part, strided)}

    def replace(layer: Any) -> Any:
        if isinstance(layer, PortLayer):  # the network is itself such a clone
            layer = layer.layer
        if id(layer) in padded:
            return _without_padding(layer, padded[id(layer)], stand_in)
        if not strided and strides_of(layer) > 1:
            return layer
        port = find_port(layer, carry_backward, attention_window)
        if port is not None:
            return stand_in(layer, port)
        return stand_in(layer, _fresh_backward(layer)) if runs_backward(layer) else layer

    sums = RunningSums(net, stand_in) if join and not isinstance(net, keras.Sequential) else None
    clone = keras.models.clone_model(net, clone_function=replace, call_function=sums, recursive=True)
    stand_ins = []
    for path, layer in walk(clone):
        if isinstance(layer, PortLayer):
            layer.place = path
            stand_ins.append(layer)
    if carry is not None:
        _carry_only(carry, stand_ins)
    return clone, stand_ins


def _carry_only(carry: Sequence[str], stand_ins: list[PortLayer]) -> None:
    """Let every layer that is not in `carry` start fresh in each window."""
    able = [layer for layer in stand_ins if layer.port.spec(layer.layer)]
    paths = [layer.place for layer in able]
    if isinstance(carry, str) or not all(isinstance(name, str) for name in carry):
        raise UnsupportedModelError(
            f"`carry` must be a list of the names of layers that carry: {quoted(paths, 9)}. Received: carry={carry!r}."
        )
    unknown = [name for name in carry if not any(is_at(path, name) for path in paths)]
    if unknown or not carry:
        raise UnsupportedModelError(
            f"`carry` must name at least one of the layers that can carry: {quoted(paths, 9)}. "
            f"Received: {quoted(unknown) or 'an empty list'}. Leave it out to carry all of them."
        )
    for layer in able:
        if not any(is_at(layer.place, name) for name in carry):
            layer.port = FreshPort(layer.layer, layer.port)


def _without_padding(layer: Any, zeros: int | None, stand_in: Callable[[Any, Any], PortLayer]) -> Any:
    """Replace a left padding and the convolution after it: the memory of the convolution takes the place of the zeros."""
    if zeros is None:
        return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy)
    return stand_in(layer, port_after_padding(layer, zeros))


class RunningSums:
    """Calls the nodes of a clone. A stand-in of the layer `RunningSum` takes the place of a cumulative sum over time.

    The stand-ins are named by their order, `cumsum`, `cumsum_1` and so on, because Keras gives an operation another name
    when a file is loaded.

    Args:
        net: The network that is cloned.
        stand_in: Makes the stand-in from the layer and its port.
    """

    def __init__(self, net: Network, stand_in: Callable[[Any, Any], PortLayer]) -> None:
        taken = {layer.name for part in containers(net) for layer in part.layers}
        self._names = (name for name in map(_numbered, itertools.count()) if name not in taken)
        self._stand_in, self._time = stand_in, time_of(inputs_of(net))

    def __call__(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a layer or an operation, or the stand-in in its place."""
        (x, *others) = tree.flatten((args, kwargs))
        if others or not hasattr(x, "shape") or not sums_steps(node, x, self._time):
            return node(*args, **kwargs)
        layer = RunningSum(tuple(x.shape[2:]), name=next(self._names), dtype=x.dtype)
        return self._stand_in(layer, RunningSumPort(layer))(x)


def _numbered(number: int) -> str:
    return f"cumsum_{number}" if number else "cumsum"


def time_of(inputs: Any) -> int | None:
    """Return the number of steps of the series among the symbolic inputs of a network; `None` stands for any number."""
    times = [tensor.shape[1] for tensor in tree.flatten(inputs) if len(tensor.shape) > 2]
    return None if None in times or not times else int(times[0])


def containers(net: Network) -> Iterator[Any]:
    """Yield a network and all networks nested in it."""
    yield net
    for layer in net.layers:
        if is_container(layer):
            yield from containers(layer)


def _fresh_backward(layer: Any) -> FreshPort:
    """Return the port of a backward layer that starts fresh in each window."""
    if not layer.stateful:
        return FreshPort(layer, BackwardPort(layer))
    raise UnsupportedModelError(
        f"Layer `{layer.name}` runs backward, so its state cannot be carried from window to window. "
        "Received: stateful=True. Set `stateful=False` for this layer: it then starts fresh in each window. "
        "`StatefulModel(..., carry_backward=True)` carries it as Keras does."
    )


def inputs_of(net: Any) -> Any:
    """Return the symbolic inputs of a network in the structure in which it takes them."""
    return net.inputs[0] if isinstance(net, keras.Sequential) else net.input


def walk(net: Network, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the layer for every layer of a network and of the networks nested in it."""
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
    # A time-distributed layer starts from zero at each step, so a recurrent layer inside it remembers nothing.
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
