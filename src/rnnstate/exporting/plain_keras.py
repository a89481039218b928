"""The step model as a plain Keras network of stock layers, so that its `.keras` file loads without rnnstate.

The graph of the network is built a second time, flat, with copies of the layers. Every recurrent layer starts from an input
of the new network, and its final state is an output:

    x ------------> copy of `lstm` ---> copy of `dense` ---> y
    state.lstm.h ->                --> next_state.lstm.h
    state.lstm.c ->                --> next_state.lstm.c
"""

import math
from collections.abc import Callable
from typing import Any, cast

import keras
from keras import layers, tree

from rnnstate.errors import ExportError
from rnnstate.exporting.signature import Signature, Tensor
from rnnstate.initial.bridge import Bridge
from rnnstate.initial.observed import Observed
from rnnstate.network.clone import inputs_of, is_container
from rnnstate.ports.bidirectional import BidirectionalPort
from rnnstate.ports.recurrent import BackwardPort, RecurrentPort, is_recurrent, leaf_names, runs_backward
from rnnstate.ports.registry import find_port
from rnnstate.state.spec import LeafSpec, is_at

_MERGES: dict[str, Callable[..., Any]] = {
    "concat": layers.Concatenate,
    "sum": layers.Add,
    "ave": layers.Average,
    "mul": layers.Multiply,
}


def plain_step_model(net: Any, signature: Signature) -> Any:
    """Return a Functional model with the inputs of the network and one input for each leaf. It has copies of the weights.

    Args:
        net: The network.
        signature: Inputs and outputs of the step model.

    Raises:
        ExportError: If a port that no stock layer can replace carries the memory of a layer.
    """
    graph = _Graph(signature)
    named = {tensor.name: graph.input(tensor) for tensor in signature.inputs}
    outputs = graph.lay(net, "", tree.pack_sequence_as(inputs_of(net), list(named.values())))
    if missing := [name for name in signature.leaves if name not in graph.finals]:
        raise ExportError(
            f'format="keras" holds stock layers alone. Received: the leaf `{missing[0]}`, which no stock layer takes and '
            "returns. Use another format."
        )
    results = dict(zip((tensor.name for tensor in signature.outputs), tree.flatten(outputs), strict=True))
    going_in = {tensor.name: graph.leaves[name] for name, tensor in signature.state_inputs.items()}
    coming_out = {tensor.name: graph.finals[name] for name, tensor in signature.state_outputs.items()}
    model = keras.Model({**named, **going_in}, {**results, **coming_out}, name=f"{net.name}_step")
    for original, copy in graph.copies:
        copy.set_weights(original.get_weights())
    return model


def plain_initial_model(start: Any, signature: Signature) -> Any:
    """Return a Functional model that computes the initial state: from the known values to one output for each leaf.

    Args:
        start: The layer of the initial state.
        signature: Inputs and outputs of the step model.

    Raises:
        ExportError: If the initial state does not consist of stock layers.
    """
    observed = cast(Tensor, signature.observed)
    if type(start) not in (Observed, Bridge):
        raise ExportError(
            f'format="keras" holds stock layers alone. Received: the initial state `{type(start).__name__}`. '
            "Use another format."
        )
    shape = observed.sizes(None, None)
    x = keras.Input(shape[1:], batch_size=shape[0], dtype=observed.dtype, name=observed.name)
    # One dense layer per leaf, after an optional hidden layer that all of them share.
    hidden, maps = start.maps
    value = x if hidden is None else _twin(hidden)(x)
    outputs = {}
    for dense, (name, leaf) in zip(maps, signature.leaves.items(), strict=True):
        flat = _zeros(name, leaf)(x) if dense is None else _twin(dense)(value)
        tensor = signature.state_inputs[name]
        outputs[tensor.name] = layers.Reshape(leaf.shape, name=f"{name.replace('/', '_')}_leaf")(flat)
    model = keras.Model({observed.name: x}, outputs, name="initial_state")
    for layer in filter(None, (hidden, *maps)):
        model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


def _zeros(name: str, leaf: LeafSpec) -> Any:
    """Return a stock layer that gives the leaves that no map computes: their layers start from zeros."""
    size = math.prod(leaf.shape)
    return layers.Dense(size, use_bias=False, kernel_initializer="zeros", name=name.replace("/", "_"), dtype=leaf.dtype)


def _twin(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


class _Slot(keras.Layer):
    """A place in the copy of a graph. Calling it calls the layer at first, and `lay` once `laying` is set.

    Keras first calls each slot while it clones the graph; then the layer gives the shapes. Afterwards the cloned graph is
    called once more with real inputs, and `lay` puts a copy of the layer into the new graph.
    """

    def __init__(self, layer: Any, lay: Callable[..., Any]) -> None:
        super().__init__(name=layer.name)
        self.layer, self.lay, self.laying = layer, lay, False
        self.supports_masking = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.lay(self.layer, *args, **kwargs) if self.laying else super().__call__(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


class _Graph:
    """The graph of a network, built a second time with the state as inputs and outputs.

    Attributes:
        leaves: The new input of each leaf.
        finals: The new output of each leaf.
        copies: Pairs of a layer and its copy, for the weights.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.leaves: dict[str, Any] = {}
        self.finals: dict[str, Any] = {}
        self.copies: list[tuple[Any, Any]] = []
        self._copied: dict[str, Any] = {}
        self._calls: dict[str, int] = {}

    def input(self, tensor: Tensor) -> Any:
        """Return a new input of the plain network."""
        shape = tensor.sizes(None, None)
        return keras.Input(shape[1:], batch_size=shape[0], dtype=tensor.dtype, name=tensor.name)

    def lay(self, net: Any, prefix: str, x: Any) -> Any:
        """Build the graph of a network on `x`, and return its outputs. `prefix` is the path of the network."""
        if isinstance(net, keras.Sequential):
            for layer in net.layers:
                x = self._call(prefix, layer, x)
            return x
        slots: list[_Slot] = []

        def hold(layer: Any) -> Any:
            slots.append(_Slot(layer, lambda layer, *args, **kwargs: self._call(prefix, layer, *args, **kwargs)))
            return slots[-1]

        graph = keras.models.clone_model(net, clone_function=hold)
        for slot in slots:
            slot.laying = True
        return graph.call(x)

    def _call(self, prefix: str, layer: Any, *args: Any, **kwargs: Any) -> Any:
        path = f"{prefix}{layer.name}"
        if is_container(layer):
            return self.lay(layer, f"{path}/", *args)
        port = find_port(layer, self._carries(path, layer))
        if port is None or not self._has_leaves(path):
            # A layer without a port keeps no memory. One that runs backward or does not carry starts fresh in each chunk.
            changes = {"stateful": False} if is_recurrent(layer) else {}
            return self._copy(path, layer, **changes)(*args, **kwargs)
        if isinstance(port, BidirectionalPort):
            return self._call_bidirectional(path, layer, *args)
        if type(port) not in (RecurrentPort, BackwardPort):
            raise ExportError(
                f'format="keras" holds stock layers alone. Received: layer `{layer.name}`, whose memory is carried by '
                f"{type(port).__name__}. Use another format."
            )
        y, *final = self._call_recurrent(path, self._entered(path), layer, *args)
        return (y, *final) if layer.return_state else y

    def _carries(self, path: str, layer: Any) -> bool:
        """Whether a layer that runs backward is carried. If it is, the model has leaves for it."""
        return runs_backward(layer) and self._has_leaves(path)

    def _has_leaves(self, path: str) -> bool:
        return any(is_at(name, path) for name in self.signature.leaves)

    def _copy(self, path: str, layer: Any, **changes: Any) -> Any:
        """Return the copy of a layer. All uses of a layer share one copy."""
        if path not in self._copied:
            changes.setdefault("name", path.replace("/", "_"))
            self._copied[path] = type(layer).from_config({**layer.get_config(), **changes})
            self.copies.append((layer, self._copied[path]))
        return self._copied[path]

    def _entered(self, path: str) -> str:
        """Return the path of the next use of a layer, as the state scope names it. Each use has a separate memory."""
        count = self._calls[path] = self._calls.get(path, -1) + 1
        return path if count == 0 else f"{path}/call_{count}"

    def _call_recurrent(self, path: str, prefix: str, layer: Any, x: Any) -> Any:
        names = [f"{prefix}/{name}" for name in leaf_names(layer)]
        self.leaves |= {name: self.input(self.signature.state_inputs[name]) for name in names}
        # The leaves are flat; the layer takes them nested as its cell does, one list for each cell of a stack.
        structure = layer.get_initial_state(batch_size=1)
        given = tree.pack_sequence_as(structure, [self.leaves[name] for name in names])
        y, *final = self._copy(path, layer, return_state=True, stateful=False)(x, initial_state=given)
        self.finals.update(zip(names, tree.flatten(final), strict=True))
        return (y, *final)

    def _call_bidirectional(self, path: str, layer: Any, x: Any) -> Any:
        prefix = self._entered(path)
        y = self._call_recurrent(f"{path}/forward", f"{prefix}/forward", layer.forward_layer, x)[0]
        if self._carries(f"{prefix}/backward", layer.backward_layer):
            other = self._call_recurrent(f"{path}/backward", f"{prefix}/backward", layer.backward_layer, x)[0]
        else:
            other = self._copy(f"{path}/backward", layer.backward_layer, stateful=False)(x)  # starts fresh
        if layer.return_sequences:  # the backward layer returns its last step first
            other = keras.ops.flip(other, axis=1)
        if layer.merge_mode is None:
            return [y, other]
        return _MERGES[layer.merge_mode](name=f"{prefix}_merge".replace("/", "_"))([y, other])
