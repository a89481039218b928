"""Weights of LSTM and GRU layers to and from `torch.nn.LSTM`/`GRU` and ONNX LSTM/GRU nodes.

Everyone multiplies the same matrices in another order. Keras keeps `kernel (features, gates * units)`; PyTorch and ONNX its
transpose, with two biases where Keras' LSTM has one (their sum). Gates stand in this order:

| | LSTM | GRU |
|---|---|---|
| Keras | i f c o | z r h |
| PyTorch | i f g o | r z n |
| ONNX | i o f c | z r h |

(c, g and h, n are names of the same gate.) PyTorch's GRU, and ONNX's with `linear_before_reset=1`, is Keras' with
`reset_after=True`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from rnnstate.errors import SpecMismatchError
from rnnstate.state.state import to_numpy

# For each gate of the other library, its number in Keras' order.
_GATES = {
    ("torch", "lstm"): (0, 1, 2, 3),
    ("torch", "gru"): (1, 0, 2),
    ("onnx", "lstm"): (0, 3, 1, 2),
    ("onnx", "gru"): (0, 1, 2),
}
_Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # input and recurrent matrix, input and recurrent bias


def from_torch(module: Any, net: Any) -> None:
    """Copy the weights of a `torch.nn.LSTM` or `GRU` into Keras layers.

    Args:
        module: The module, or its `state_dict()`.
        net: Built Keras layers, or a network with them: an LSTM or GRU per layer of the module, in a `Bidirectional` if
            the module is bidirectional.

    Raises:
        SpecMismatchError: If the layers do not fit the module; nothing is changed then.
    """
    state = module if isinstance(module, Mapping) else module.state_dict()
    arrays = {name: _host(value) for name, value in state.items()}
    sides = _sides(net)
    expected = {name for prefix, _ in sides for name in _torch_names(prefix)}
    if {name for name in arrays if "bias" not in name} != {name for name in expected if "bias" not in name}:
        raise SpecMismatchError(
            f"The layers must be those of the module, which has {_listed(arrays)}. "
            f"Received: layers for {_listed(expected)}."
        )
    _assign([(layer, _torch_parts(arrays, prefix)) for prefix, layer in sides], "torch")


def to_torch(net: Any) -> dict[str, np.ndarray]:
    """Return the weights of Keras layers under the names of a `torch.nn.LSTM` or `GRU`.

    Args:
        net: Built Keras layers, or a network with them.

    Returns:
        What `module.load_state_dict` takes, once each array is a tensor: `{name: torch.tensor(array)}`.

    Raises:
        SpecMismatchError: If a layer is of a kind that PyTorch does not have.
    """
    found: dict[str, np.ndarray] = {}
    for prefix, layer in _sides(net):
        found.update(zip(_torch_names(prefix), _split(layer, "torch"), strict=True))
    return found


def from_onnx(arrays: Mapping[str, np.ndarray], layer: Any) -> None:
    """Copy the weights of an ONNX LSTM or GRU node into a Keras layer.

    Args:
        arrays: The node's inputs `W`, `R` and, if it has biases, `B`; of a GRU also its `linear_before_reset`, 1 unless
            given.
        layer: A built LSTM or GRU, or a `Bidirectional` around them for a bidirectional node.

    Raises:
        SpecMismatchError: If the layer does not fit the node; nothing is changed then.
    """
    sides = _pair(layer)
    if len(arrays["W"]) != len(sides):
        raise SpecMismatchError(
            f"The layer must run in {len(arrays['W'])} directions, as the node does. Received: {len(sides)}."
        )
    after = bool(arrays.get("linear_before_reset", 1))
    if any(isinstance(side, layers.GRU) and side.reset_after != after for side in sides):
        raise SpecMismatchError(
            f"Layer `{layer.name}` must have `reset_after={after}`, as the node has `linear_before_reset={int(after)}`. "
            f"Received: reset_after={not after}."
        )
    _assign([(side, _onnx_parts(arrays, i)) for i, side in enumerate(sides)], "onnx")


def to_onnx(layer: Any) -> dict[str, np.ndarray]:
    """Return the weights of a Keras layer as the inputs `W`, `R` and `B` of an ONNX LSTM or GRU node.

    Args:
        layer: A built LSTM or GRU, or a `Bidirectional` around them. A GRU with `reset_after=True` needs a node with
            `linear_before_reset=1`.

    Raises:
        SpecMismatchError: If ONNX has no such layer.
    """
    parts = [_split(side, "onnx") for side in _pair(layer)]
    return {
        "W": np.stack([w for w, *_ in parts]),
        "R": np.stack([r for _, r, *_ in parts]),
        "B": np.stack([np.concatenate([b, rb]) for _, _, b, rb in parts]),
    }


def read_onnx(path: Any, node: str | None = None) -> dict[str, np.ndarray]:
    """Return `W`, `R` and `B` of an LSTM or GRU node of an ONNX file, as `from_onnx` takes them.

    Args:
        path: The file.
        node: The name of the node; the first LSTM or GRU if left out.

    Raises:
        SpecMismatchError: If there is no such node, or its weights are computed in the graph.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    found = [n for n in graph.node if n.op_type in ("LSTM", "GRU") and node in (None, n.name)]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if not found or not all(name in constants for name in found[0].input[1:4] if name):
        raise SpecMismatchError(
            f"`{path}` must have an LSTM or GRU node with constant weights. Received: node={node!r}, of {len(found)} found."
        )
    arrays = {key: constants[name] for key, name in zip("WRB", found[0].input[1:4], strict=False) if name}
    reset = [attribute.i for attribute in found[0].attribute if attribute.name == "linear_before_reset"]
    return (
        arrays if found[0].op_type == "LSTM" else {**arrays, "linear_before_reset": np.array(reset[0] if reset else 0)}
    )


def _sides(net: Any) -> list[tuple[str, Any]]:
    """Return each single layer with the ending of PyTorch's names for it: `l0`, `l0_reverse`, `l1`."""
    given = net.layers if isinstance(net, keras.Model) else [net] if isinstance(net, keras.Layer) else net
    recurrent = [layer for layer in given if isinstance(layer, (layers.LSTM, layers.GRU, layers.Bidirectional))]
    return [
        (f"l{index}{'_reverse' if direction else ''}", side)
        for index, layer in enumerate(recurrent)
        for direction, side in enumerate(_pair(layer))
    ]


def _pair(layer: Any) -> list[Any]:
    return [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]


def _kind(layer: Any) -> str:
    if isinstance(layer, (layers.LSTM, layers.GRU)) and layer.built:
        return "lstm" if isinstance(layer, layers.LSTM) else "gru"
    raise SpecMismatchError(
        f"The layer must be a built LSTM or GRU. Received: `{layer.name}` ({type(layer).__name__})."
    )


def _torch_names(prefix: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{prefix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


def _torch_parts(arrays: Mapping[str, np.ndarray], prefix: str) -> _Parts:
    w, r, b, rb = _torch_names(prefix)
    none = np.zeros(len(arrays[w]), arrays[w].dtype)
    return arrays[w], arrays[r], arrays.get(b, none), arrays.get(rb, none)


def _onnx_parts(arrays: Mapping[str, np.ndarray], side: int) -> _Parts:
    w, r = arrays["W"][side], arrays["R"][side]
    both = arrays["B"][side] if "B" in arrays else np.zeros(2 * len(w), w.dtype)
    return w, r, both[: len(w)], both[len(w) :]


def _assign(pairs: Sequence[tuple[Any, _Parts]], source: str) -> None:
    """Set the weights of all layers, once all of them are known to fit."""
    ready = [(layer, _joined(layer, parts, source)) for layer, parts in pairs]
    for layer, arrays in ready:
        layer.set_weights(arrays)


def _joined(layer: Any, parts: _Parts, source: str) -> list[np.ndarray]:
    """Return another library's weights as `layer.set_weights` takes them."""
    kind = _kind(layer)
    _check_reset(layer, source)
    gates = _GATES[source, kind]
    w, r, b, rb = (_reordered(part, np.argsort(gates)) for part in parts)
    arrays = [w.T, r.T]
    if layer.use_bias:
        arrays.append(np.stack([b, rb]) if kind == "gru" and layer.reset_after else b + rb)
    elif b.any() or rb.any():
        raise SpecMismatchError(f"Layer `{layer.name}` must have `use_bias=True`. Received: weights with biases.")
    for mine, theirs in zip(layer.weights, arrays, strict=True):
        if tuple(mine.shape) != theirs.shape:
            raise SpecMismatchError(
                f"Weight `{mine.path}` must have shape {tuple(mine.shape)}. Received: shape={theirs.shape}."
            )
    return arrays


def _split(layer: Any, target: str) -> _Parts:
    """Return the weights of a Keras layer as another library keeps them; LSTM's one bias becomes the first of two."""
    gates, arrays = _GATES[target, _kind(layer)], [ops.convert_to_numpy(w) for w in layer.get_weights()]
    _check_reset(layer, target)
    w, r = arrays[0].T, arrays[1].T
    none = np.zeros(len(w), w.dtype)
    b, rb = (none, none) if not layer.use_bias else (arrays[2], none) if arrays[2].ndim == 1 else arrays[2]
    first, second, third, fourth = (_reordered(part, gates) for part in (w, r, b, rb))
    return first, second, third, fourth


def _check_reset(layer: Any, other: str) -> None:
    if other == "torch" and isinstance(layer, layers.GRU) and not layer.reset_after:
        raise SpecMismatchError(
            f"Layer `{layer.name}` must have `reset_after=True`, as PyTorch's GRU. Received: reset_after=False."
        )


def _reordered(rows: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[gate] for gate in order])


def _host(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu()) if hasattr(value, "detach") else to_numpy(value)


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)[:3]) + f" ({len(names)} in all)"
