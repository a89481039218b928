"""A plain Keras network of the step model: stock layers alone, so that its `.keras` file loads without rnnstate.

Every recurrent layer is called with `initial_state=` an input of the network, and its final state is an output.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, tree

from rnnstate.errors import ExportError
from rnnstate.exporting.signature import Signature
from rnnstate.network import inputs_of, is_container
from rnnstate.ports import BidirectionalPort, RecurrentPort, find_port, leaf_names, runs_backward

_MERGES: dict[str, Callable[..., Any]] = {
    "concat": layers.Concatenate,
    "sum": layers.Add,
    "ave": layers.Average,
    "mul": layers.Multiply,
}


def plain_step_model(net: Any, signature: Signature) -> Any:
    """Return a Functional model with the network's inputs and a leaf per input, of its own weights.

    Raises:
        ExportError: If a layer carries its memory by a port of its own, which no stock layer does.
    """
    graph = _Graph(signature)
    names, inputs, outputs = graph.replay(net, "")
    named = dict(zip((tensor.name for tensor in signature.inputs), inputs, strict=True))
    going_in = {signature.state_inputs[name].name: graph.leaves[name] for name in names}
    coming_out = {signature.state_outputs[name].name: graph.finals[name] for name in names}
    results = dict(zip((tensor.name for tensor in signature.outputs), outputs, strict=True))
    model = keras.Model({**named, **going_in}, {**results, **coming_out}, name=f"{net.name}_step")
    for original, copy in graph.copies:
        copy.set_weights(original.get_weights())
    return model


class _Graph:
    """The graph of a network, laid again with the state as inputs and outputs."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.leaves: dict[str, Any] = {}
        self.finals: dict[str, Any] = {}
        self.copies: list[tuple[Any, Any]] = []
        self._calls: dict[str, int] = {}
        self._originals: dict[int, Any] = {}

    def replay(self, net: Any, prefix: str) -> tuple[list[str], list[Any], list[Any]]:
        """Lay the graph of a network; return its leaves, inputs and outputs."""
        before = set(self.leaves)
        if isinstance(net, keras.Sequential):
            inputs = [self._input(tensor) for tensor in net.inputs]
            y = inputs[0]
            for layer in net.layers:
                y = self._call(prefix, self._copy(layer), y)
            outputs = tree.flatten(y)
        else:
            clone = keras.models.clone_model(
                net,
                input_tensors=tree.map_structure(self._input, inputs_of(net)),
                clone_function=self._copy,
                call_function=lambda layer, *args, **kwargs: self._call(prefix, layer, *args, **kwargs),
            )
            inputs, outputs = tree.flatten(inputs_of(clone)), tree.flatten(clone.output)
        return [name for name in self.leaves if name not in before], inputs, outputs

    def _input(self, tensor: Any) -> Any:
        shape = tensor.shape[1:]
        if shape and shape[0] is None:
            shape = (self.signature.time, *shape[1:])
        return keras.Input(shape, batch_size=tensor.shape[0], dtype=tensor.dtype, name=tensor.name)

    def _copy(self, layer: Any) -> Any:
        """Return a layer of its own for the new graph; one with a memory is laid when it is called."""
        port = find_port(layer)
        if is_container(layer) or isinstance(port, BidirectionalPort):
            return layer
        if port is not None and type(port) is not RecurrentPort:
            raise ExportError(
                f'format="keras" is made of stock layers. Received: layer `{layer.name}`, whose memory is carried by '
                f"{type(port).__name__}. Use another format."
            )
        changes = {"return_state": True, "stateful": False} if port is not None else {}
        return self._own(layer, **changes)

    def _own(self, layer: Any, **changes: Any) -> Any:
        if runs_backward(layer):
            changes["stateful"] = False
        copy = type(layer).from_config({**layer.get_config(), **changes})
        self.copies.append((layer, copy))
        self._originals[id(copy)] = layer
        return copy

    def _call(self, prefix: str, layer: Any, *args: Any, **kwargs: Any) -> Any:
        path = f"{prefix}{layer.name}"
        if is_container(layer):
            return self._call_nested(path, layer, *args)
        if isinstance(layer, layers.Bidirectional):
            return self._call_bidirectional(path, layer, *args, **kwargs)
        original = self._originals.get(id(layer), layer)
        if find_port(original) is None:
            return layer(*args, **kwargs)
        y, *final = self._call_recurrent(self._entered(path), layer, *args, **kwargs)
        return (y, *final) if original.return_state else y

    def _entered(self, path: str) -> str:
        """Name one call of a layer as the state scope does: each use has a memory of its own."""
        count = self._calls[path] = self._calls.get(path, -1) + 1
        return path if count == 0 else f"{path}/call_{count}"

    def _call_recurrent(self, prefix: str, layer: Any, x: Any, **kwargs: Any) -> Any:
        names = [f"{prefix}/{name}" for name in leaf_names(layer)]
        for name in names:
            tensor = self.signature.state_inputs[name]
            self.leaves[name] = keras.Input(
                tensor.shape[1:], batch_size=self.signature.batch, dtype=tensor.dtype, name=tensor.name
            )
        structure = layer.get_initial_state(batch_size=1)
        given = tree.pack_sequence_as(structure, [self.leaves[name] for name in names])
        y, *final = layer(x, initial_state=given, **kwargs)
        self.finals.update(zip(names, tree.flatten(final), strict=True))
        return (y, *final)

    def _call_bidirectional(self, path: str, layer: Any, x: Any, **kwargs: Any) -> Any:
        sides = [(layer.forward_layer, {"return_state": True}), (layer.backward_layer, {})]
        forward, backward = (
            self._own(side, stateful=False, name=f"{layer.name}_{side.name}", **changes) for side, changes in sides
        )
        y = self._call_recurrent(f"{self._entered(path)}/forward", forward, x, **kwargs)[0]
        other = backward(x, **kwargs)
        if layer.return_sequences:
            other = keras.ops.flip(other, axis=1)
        if layer.merge_mode is None:
            return [y, other]
        return _MERGES[layer.merge_mode](name=f"{layer.name}_merge")([y, other])

    def _call_nested(self, path: str, net: Any, *args: Any) -> Any:
        """Lay a nested network as a model of its own, whose leaves are inputs of the whole."""
        inner = _Graph(self.signature)
        names, inputs, outputs = inner.replay(net, f"{self._entered(path)}/")
        model = keras.Model(
            [*inputs, *(inner.leaves[name] for name in names)],
            [*outputs, *(inner.finals[name] for name in names)],
            name=net.name,
        )
        self.copies += inner.copies
        for name in names:
            leaf = inner.leaves[name]
            self.leaves[name] = keras.Input(leaf.shape[1:], batch_size=leaf.shape[0], dtype=leaf.dtype, name=leaf.name)
        results = model([*tree.flatten(args), *(self.leaves[name] for name in names)])
        self.finals.update(zip(names, results[len(outputs) :], strict=True))
        structure = net.outputs[0] if isinstance(net, keras.Sequential) else net.output
        return tree.pack_sequence_as(structure, results[: len(outputs)])
