"""Masks by their values: each symbol of a network stands for small random values, from which layers make their masks.

Two masks are the same mask if their values are equal. So a mask is known again after `Add`, which joins two masks, and in
the operations that Keras adds to a network to compute its masks.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.network.time_mixing.cases import Node

_ROWS, _STEPS = 16, 8  # enough that two random masks differ, also those of series with one step
Mask = np.ndarray | None


class MaskValues:
    """The values for which symbols stand, and the masks that layers make of them."""

    def __init__(self) -> None:
        self._values: dict[int, np.ndarray] = {}  # by the id of the symbol
        self._random = np.random.default_rng(0)

    def of(self, part: Any) -> Any:
        """Return the value of a symbol; another argument stands for itself. About half of the steps are zero, as masked."""
        if not keras.backend.is_keras_tensor(part):
            return part
        if id(part) not in self._values:
            shape = (_ROWS, *(size or _STEPS for size in part.shape[1:]))
            steps = self._random.integers(0, 2, (*shape[:2], *[1] * (len(shape) - 2)))
            dtype = "float32" if part.dtype == "bfloat16" else part.dtype
            self._values[id(part)] = np.broadcast_to(steps, shape).astype(dtype)
        return self._values[id(part)]

    def copy(self, symbol: Any, other: Any) -> None:
        """Let a symbol stand for the value of another one."""
        self._values[id(symbol)] = self.of(other)

    def compute(self, node: Node, outputs: Sequence[Any]) -> None:
        """Compute the outputs of an operation that may be part of `compute_mask`: Keras makes nodes of these operations."""
        if isinstance(node.call, keras.Layer) or any(output.dtype != "bool" for output in outputs):
            return
        try:
            args, kwargs = tree.map_structure(self.of, (node.args, node.kwargs))
            results = tree.flatten(node.call(*args, **kwargs))
        except Exception:  # such as a reshape to a fixed batch: this mask then equals no other
            return
        for output, result in zip(outputs, results, strict=True):
            self._values[id(output)] = _array(result)

    def after(self, node: Node, given: Any, count: int) -> list[Mask]:
        """Return the masks of the outputs of a node. Only layers that support masks hand them on or make new ones.

        Args:
            node: The node.
            given: The masks that it gets, in the structure of its first argument.
            count: How many outputs it has.
        """
        nothing: list[Mask] = [None] * count
        layer = node.call
        default = getattr(type(layer), "compute_mask", None) is keras.Layer.compute_mask
        if not getattr(layer, "supports_masking", False) or (default and not some(given)):
            return nothing  # most networks have no mask at all
        try:
            inputs = tree.map_structure(self.of, node.first)
            masks = tree.flatten(layer.compute_mask(inputs, tree.map_structure(_tensor, given)))
        except Exception:  # a layer of the user may need inputs of other sizes: this mask then equals no other
            masks = [self._random.integers(0, 2, (_ROWS, _STEPS))]
        return [*(None if mask is None else _array(mask) for mask in masks), *nothing][:count]


def same(mask: Mask, other: Mask) -> bool:
    """Whether two masks are the same mask."""
    return mask is not None and other is not None and np.array_equal(mask, other)


def same_all(masks: Any, others: Any) -> bool:
    """Whether each of several masks is the same as another one, or there is none in both places."""
    pairs = zip(tree.flatten(masks), tree.flatten(others), strict=True)
    return all((mask is None and other is None) or same(mask, other) for mask, other in pairs)


def some(masks: Any) -> bool:
    """Whether any of several masks is there."""
    return any(mask is not None for mask in tree.flatten(masks))


def _tensor(mask: Mask) -> Any:
    return None if mask is None else ops.convert_to_tensor(mask)


def _array(mask: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(mask))
