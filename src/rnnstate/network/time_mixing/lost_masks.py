"""Which nodes read what attention gives at masked steps. No window can know these values.

Where the network masks a step, as `Masking` does, Keras' attention gives it the mean of all steps, later ones included. Its
stand-in sees no later steps, and gives the step another value. The difference reaches no result as long as the mask stays
with the series: later layers skip the step, and it has no loss.

    Masking -> attention -> Dense -> LSTM        the mask reaches the LSTM, which skips the masked steps
    Masking -> attention -> Conv1D               the convolution reads the masked steps: refused
    Masking -> attention -> x + y                an operation of `keras.ops` ends the mask: refused

Masks are followed by their values. Each symbol of the network stands for small random values, and layers make their masks
from these values. Two masks are the same mask if their values are equal.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from rnnstate.layers.base import LinearRecurrence
from rnnstate.network.stand_in import PortLayer
from rnnstate.network.time_mixing.cases import Node
from rnnstate.ports.attention import is_attention

_ROWS, _STEPS = 16, 8  # enough that two random masks differ, also those of series with one step


class Masks:
    """Follows the mask of each tensor through a walk, and which tensors hold masked steps of attention."""

    def __init__(self) -> None:
        self._masks: dict[int, np.ndarray] = {}  # by the id of the symbol
        self._attention: dict[int, str] = {}  # the attention layer whose masked steps a symbol holds
        self._values: dict[int, np.ndarray] = {}  # what a symbol stands for
        self._random = np.random.default_rng(0)

    def enter(self, symbols: Sequence[Any], given: Sequence[Any], mask: Any = None) -> None:
        """Note that the inputs of a nested network stand for the symbols with which it is called.

        Args:
            symbols: The inputs.
            given: The symbols.
            mask: The argument `mask` of the call, a symbol for each input, or `None`.
        """
        self.copy(symbols, given)
        for symbol, part in zip(symbols, tree.flatten(mask), strict=False):
            if part is not None:
                self._masks[id(symbol)] = self._value(part)

    def copy(self, symbols: Sequence[Any], others: Sequence[Any]) -> None:
        """Note for each symbol that it stands for another one."""
        for symbol, other in zip(symbols, others, strict=True):
            self._note(symbol, self._masks.get(id(other)), self._attention.get(id(other)))
            self._values[id(symbol)] = self._value(other)

    def follow(self, node: Node, outputs: Sequence[Any]) -> str | None:
        """Note the masks of the outputs of a node.

        Args:
            node: The node.
            outputs: The symbols of its outputs.

        Returns:
            The path of the attention layer whose masked steps the node reads without their mask; `None` if it does not.
        """
        layer = node.call.layer if isinstance(node.call, PortLayer) else node.call
        given = self._given(node)
        self._compute(node, outputs)
        held = [(self._attention[key], self._masks[key]) for key in map(id, node.symbols) if key in self._attention]
        if _reads_no_masked_step(layer, held, tree.flatten(given)):
            held = []
        lost = None
        for output, mask in zip(outputs, self._after(node, given, len(outputs)), strict=True):
            kept = all(_same(mask, before) for _, before in held)
            attends = mask is not None and is_attention(layer)
            self._note(output, mask, node.path if attends else held[0][0] if held and kept else None)
            lost = lost if kept else held[0][0]
        return lost

    def _note(self, symbol: Any, mask: np.ndarray | None, attention: str | None) -> None:
        if mask is not None:
            self._masks[id(symbol)] = mask
        if attention is not None:
            self._attention[id(symbol)] = attention

    def _given(self, node: Node) -> Any:
        """Return the masks that Keras hands to a node, in the structure of its first argument."""
        explicit = node.kwargs.get("mask")
        if explicit is not None:
            return tree.map_structure(lambda part: None if part is None else self._value(part), explicit)
        return tree.map_structure(lambda part: self._masks.get(id(part)), _first(node))

    def _after(self, node: Node, given: Any, count: int) -> list[np.ndarray | None]:
        """Return the masks of the outputs of a node. Only layers that support masks hand them on or make new ones."""
        nothing: list[np.ndarray | None] = [None] * count
        layer = node.call
        if not getattr(layer, "supports_masking", False):
            return nothing
        if type(layer).compute_mask is keras.Layer.compute_mask and not _some(given):
            return nothing  # most networks have no mask at all
        try:
            inputs = tree.map_structure(self._value, _first(node))
            masks = tree.flatten(layer.compute_mask(inputs, tree.map_structure(_tensor, given)))
        except Exception:  # a layer of the user may need inputs of other sizes
            masks = [self._random.integers(0, 2, (_ROWS, _STEPS))]
        return [*(None if mask is None else _array(mask) for mask in masks), *nothing][:count]

    def _compute(self, node: Node, outputs: Sequence[Any]) -> None:
        """Compute the masks that the network itself computes: Keras makes nodes of the operations in `compute_mask`."""
        if isinstance(node.call, keras.Layer) or any(output.dtype != "bool" for output in outputs):
            return
        try:
            args, kwargs = tree.map_structure(self._value, (node.args, node.kwargs))
            results = tree.flatten(node.call(*args, **kwargs))
        except Exception:  # such as a reshape to a fixed batch: the mask then equals no other
            return
        for output, result in zip(outputs, results, strict=True):
            self._values[id(output)] = _array(result)

    def _value(self, part: Any) -> Any:
        """Return what a symbol stands for. About half of its steps are zero, so that `Masking` masks them."""
        if not keras.backend.is_keras_tensor(part):
            return part
        if id(part) not in self._values:
            shape = (_ROWS, *(size or _STEPS for size in part.shape[1:]))
            kept = self._random.integers(0, 2, (*shape[:2], *[1] * (len(shape) - 2)))
            self._values[id(part)] = np.broadcast_to(kept, shape).astype(_plain(part.dtype))
        return self._values[id(part)]


def way_out(attention: str) -> str:
    """Return what to do about a node that reads the masked steps of an attention layer."""
    return (
        f"it ends the mask. Keep the mask from `{attention}` up to a recurrent layer or the output: `Add` (in place of "
        "`+`), `Dense`, `LayerNormalization` and `Dropout` keep it. Or put this before the attention, or leave out what "
        "masks steps (`Masking`, `mask_zero=True`)"
    )


def _reads_no_masked_step(layer: Any, held: Sequence[tuple[str, np.ndarray]], given: Sequence[Any]) -> bool:
    """Whether no output of a node depends on the steps that were masked in attention."""
    if type(layer).__name__ in ("ZerosLike", "OnesLike") and type(layer).__module__.startswith("keras."):
        return True
    if isinstance(layer, LinearRecurrence):
        skips = type(layer).read_out is LinearRecurrence.read_out
    else:
        skips = isinstance(layer, (layers.RNN, layers.Bidirectional, layers.GlobalAveragePooling1D))
    return skips and all(_same(mask, before) for mask in given for _, before in held)


def _same(mask: np.ndarray | None, other: np.ndarray) -> bool:
    return mask is not None and np.array_equal(mask, other)


def _some(masks: Any) -> bool:
    return any(mask is not None for mask in tree.flatten(masks))


def _first(node: Node) -> Any:
    """Return the first argument of a call, a symbol or a structure of symbols."""
    return node.args[0] if node.args else next(iter(node.kwargs.values()))


def _tensor(mask: np.ndarray | None) -> Any:
    return None if mask is None else ops.convert_to_tensor(mask)


def _array(mask: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(mask))


def _plain(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype
