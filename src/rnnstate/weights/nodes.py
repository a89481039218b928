"""Weights of one recurrent layer to and from an ONNX LSTM or GRU node.

A node has the inputs `W (directions, gates * units, features)`, `R (directions, gates * units, units)` and
`B (directions, 2 * gates * units)`, which holds both biases one after the other.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import layers

from rnnstate.errors import SpecMismatchError
from rnnstate.weights.gates import Parts, assign, directions, split


def from_onnx(arrays: Mapping[str, np.ndarray], layer: Any) -> None:
    """Copy the weights of an ONNX LSTM or GRU node into a Keras layer.

    Args:
        arrays: The inputs `W`, `R` and, if the node has biases, `B`. For a GRU also `linear_before_reset`, whose
            default is 1.
        layer: A built LSTM or GRU, or a `Bidirectional` around one for a bidirectional node.

    Raises:
        SpecMismatchError: If the layer does not fit the node. Nothing has changed then.

    Example:

    >>> one, other = keras.layers.GRU(3), keras.layers.GRU(3)
    >>> one.build((None, None, 2)), other.build((None, None, 2))
    (None, None)
    >>> from_onnx(to_onnx(one), other)
    >>> bool((one.get_weights()[0] == other.get_weights()[0]).all())
    True
    """
    sides = directions(layer)
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
    assign([(side, _parts(arrays, i)) for i, side in enumerate(sides)], "onnx")


def to_onnx(layer: Any) -> dict[str, np.ndarray]:
    """Return the weights of a Keras layer as the inputs `W`, `R` and `B` of an ONNX LSTM or GRU node.

    Args:
        layer: A built LSTM or GRU, or a `Bidirectional` around one. A GRU with `reset_after=True` needs a node with
            `linear_before_reset=1`.

    Returns:
        The arrays by name.

    Raises:
        SpecMismatchError: If ONNX has no such layer.

    Example:

    >>> layer = keras.layers.LSTM(3)
    >>> layer.build((None, None, 2))
    >>> {name: array.shape for name, array in to_onnx(layer).items()}
    {'W': (1, 12, 2), 'R': (1, 12, 3), 'B': (1, 24)}
    """
    parts = [split(side, "onnx") for side in directions(layer)]
    return {
        "W": np.stack([w for w, *_ in parts]),
        "R": np.stack([r for _, r, *_ in parts]),
        "B": np.stack([np.concatenate([b, rb]) for _, _, b, rb in parts]),
    }


def read_onnx(path: str | os.PathLike[str], node: str | None = None) -> dict[str, np.ndarray]:
    """Return `W`, `R` and `B` of an LSTM or GRU node of an ONNX file, as `from_onnx` takes them.

    Args:
        path: The file.
        node: The name of the node. The default is the first LSTM or GRU.

    Returns:
        The arrays by name. For a GRU they include `linear_before_reset`.

    Raises:
        SpecMismatchError: If there is no such node, or the graph computes its weights.

    Example:

    >>> import onnx
    >>> arrays = {"W": np.zeros((1, 12, 2)), "R": np.zeros((1, 12, 3))}
    >>> node = onnx.helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=3)
    >>> held = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    >>> onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "net", [], [], held)), "lstm.onnx")
    >>> sorted(read_onnx("lstm.onnx"))
    ['R', 'W']
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
    # Inputs 1 to 3 of a node are W, R and B; an optional input that is left out has an empty name.
    arrays = {key: constants[name] for key, name in zip("WRB", found[0].input[1:4], strict=False) if name}
    return arrays if found[0].op_type == "LSTM" else {**arrays, "linear_before_reset": _reset_attribute(found[0])}


def _reset_attribute(node: Any) -> np.ndarray:
    given = [attribute.i for attribute in node.attribute if attribute.name == "linear_before_reset"]
    return np.array(given[0] if given else 0)


def _parts(arrays: Mapping[str, np.ndarray], side: int) -> Parts:
    w, r = arrays["W"][side], arrays["R"][side]
    both = arrays["B"][side] if "B" in arrays else np.zeros(2 * len(w), w.dtype)
    return w, r, both[: len(w)], both[len(w) :]
