"""The weights of one LSTM or GRU layer, translated between Keras' layout and that of another library.

All libraries multiply the same matrices, but order them differently. Keras keeps `kernel (features, gates * units)` and
`recurrent_kernel (units, gates * units)`. PyTorch and ONNX keep the transposes, with two biases where Keras' LSTM has one,
which is their sum. The gates have this order:

| | LSTM | GRU |
|---|---|---|
| Keras | i f c o | z r h |
| PyTorch | i f g o | r z n |
| ONNX | i o f c | z r h |

Here c and g name the same gate, and so do h and n. PyTorch's GRU, and ONNX's GRU with `linear_before_reset=1`, compute the
same as Keras' GRU with `reset_after=True`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from rnnstate.errors import SpecMismatchError

# For each gate of the other library, the number of that gate in Keras' order.
_GATES = {
    ("torch", "lstm"): (0, 1, 2, 3),
    ("torch", "gru"): (1, 0, 2),
    ("onnx", "lstm"): (0, 3, 1, 2),
    ("onnx", "gru"): (0, 1, 2),
}
# Input matrix (gates * units, features), recurrent matrix (gates * units, units), then the bias of each (gates * units,).
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def directions(layer: Any) -> list[Any]:
    """Return the forward and the backward layer of a `Bidirectional`, or the layer alone."""
    return [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]


def assign(pairs: Sequence[tuple[Any, Parts]], source: str) -> None:
    """Set the weights of all layers, after checking that every layer fits.

    Args:
        pairs: Each layer with the weights of the other library.
        source: The other library: `"torch"` or `"onnx"`.

    Raises:
        SpecMismatchError: If a layer does not fit. No layer has changed then.
    """
    ready = [(layer, _joined(layer, parts, source)) for layer, parts in pairs]
    for layer, arrays in ready:
        layer.set_weights(arrays)


def split(layer: Any, target: str) -> Parts:
    """Return the weights of a Keras layer in the layout of another library.

    The one bias of Keras' LSTM becomes the first of the two biases, and the second is zero.

    Args:
        layer: A built LSTM or GRU.
        target: The other library: `"torch"` or `"onnx"`.

    Raises:
        SpecMismatchError: If the layer is not a built LSTM or GRU, or the other library has no such layer.
    """
    gates, arrays = _GATES[target, _kind(layer)], [ops.convert_to_numpy(w) for w in layer.get_weights()]
    _check_reset(layer, target)
    w, r = arrays[0].T, arrays[1].T
    b, rb = _two_biases(layer, arrays, np.zeros(len(w), w.dtype))
    first, second, third, fourth = (_reordered(part, gates) for part in (w, r, b, rb))
    return first, second, third, fourth


def _two_biases(layer: Any, arrays: list[np.ndarray], zeros: np.ndarray) -> Any:
    if not layer.use_bias:
        return zeros, zeros
    # A GRU with `reset_after=True` has biases (2, gates * units); every other layer has one bias (gates * units,).
    return (arrays[2], zeros) if arrays[2].ndim == 1 else arrays[2]


def _kind(layer: Any) -> str:
    if isinstance(layer, (layers.LSTM, layers.GRU)) and layer.built:
        return "lstm" if isinstance(layer, layers.LSTM) else "gru"
    raise SpecMismatchError(
        f"The layer must be a built LSTM or GRU. Received: `{layer.name}` ({type(layer).__name__})."
    )


def _joined(layer: Any, parts: Parts, source: str) -> list[np.ndarray]:
    """Return the weights of another library as `layer.set_weights` takes them."""
    kind = _kind(layer)
    _check_reset(layer, source)
    # `gates` leads from Keras' order to the other library's; its `argsort` is the way back.
    w, r, b, rb = (_reordered(part, np.argsort(_GATES[source, kind])) for part in parts)
    arrays = [w.T, r.T]
    if layer.use_bias:
        arrays.append(np.stack([b, rb]) if kind == "gru" and layer.reset_after else b + rb)
    elif b.any() or rb.any():
        raise SpecMismatchError(f"Layer `{layer.name}` must have `use_bias=True`. Received: weights with biases.")
    _check_shapes(layer, arrays)
    return arrays


def _check_shapes(layer: Any, arrays: list[np.ndarray]) -> None:
    for mine, theirs in zip(layer.weights, arrays, strict=True):
        if tuple(mine.shape) != theirs.shape:
            raise SpecMismatchError(
                f"Weight `{mine.path}` must have shape {tuple(mine.shape)}. Received: shape={theirs.shape}."
            )


def _check_reset(layer: Any, other: str) -> None:
    if other == "torch" and isinstance(layer, layers.GRU) and not layer.reset_after:
        raise SpecMismatchError(
            f"Layer `{layer.name}` must have `reset_after=True`, as PyTorch's GRU. Received: reset_after=False."
        )


def _reordered(rows: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut the rows `(gates * units, ...)` into one block for each gate, and join the blocks in another order."""
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[gate] for gate in order])
