"""Which nodes read what attention gives at masked steps. No window can know these values.

Where the network masks a step, as `Masking` does, Keras' attention gives it the mean of all steps, later ones included. Its
stand-in sees no later steps, and gives the step another value. The difference reaches no result as long as the mask stays
with the series: later layers skip the step, and it has no loss.

    Masking -> attention -> Dense -> LSTM        the mask reaches the LSTM, which skips the masked steps
    Masking -> attention -> Conv1D               the convolution reads the masked steps: refused
    Masking -> attention -> x + y                an operation of `keras.ops` ends the mask: refused

In Keras 3.15, `MultiHeadAttention` also takes the mask off the tensor that it attends to. Layers that read this tensor later
see no mask, and a stand-in takes nothing off. So a walk follows two masks: the one in the clone, and the one in Keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from rnnstate.layers.base import LinearRecurrence
from rnnstate.network.masks import attached_mask, mask_input
from rnnstate.network.stand_in import PortLayer
from rnnstate.network.time_mixing.cases import Node
from rnnstate.network.time_mixing.mask_values import MaskValues, same, same_all, some
from rnnstate.ports.attention import is_attention


@dataclass
class _Tensor:
    """What is known about one tensor.

    Args:
        mask: Its mask in the clone.
        in_keras: Its mask in Keras, unless an attention layer takes it off.
        source: The tensor of which it is the same object in Keras, such as the input of `Dropout` in inference.
        attention: The attention layer whose masked steps it holds.
    """

    mask: np.ndarray | None = None
    in_keras: np.ndarray | None = None
    source: int | None = None
    attention: str | None = None


@dataclass
class Lost:
    """A node that reads masked steps of attention without their mask, as words for a message."""

    node: Node
    what: str
    way_out: str


class Masks:
    """Follows the mask of each tensor through a walk, and which tensors hold masked steps of attention."""

    def __init__(self) -> None:
        self._tensors: dict[int, _Tensor] = {}  # by the id of the symbol
        self._taken: dict[int, str] = {}  # the tensors off which an attention layer has taken the mask
        self._values = MaskValues()

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
                value = self._values.of(part)
                self._tensors[id(symbol)] = _Tensor(value, value, attention=self._of(symbol).attention)

    def copy(self, symbols: Sequence[Any], others: Sequence[Any]) -> None:
        """Note for each symbol that it stands for another one."""
        for symbol, other in zip(symbols, others, strict=True):
            self._tensors[id(symbol)] = self._of(other)
            self._values.copy(symbol, other)

    def follow(self, node: Node, outputs: Sequence[Any]) -> Lost | None:
        """Note the masks of the outputs of a node. Return why its result may differ from Keras', or `None`."""
        layer = node.call.layer if isinstance(node.call, PortLayer) else node.call
        here, there = self._given(node, layer, in_keras=False), self._given(node, layer, in_keras=True)
        self._values.compute(node, outputs)
        masks = self._values.after(node, here, len(outputs))
        others = masks if same_all(here, there) else self._values.after(node, there, len(outputs))
        held = [tensor for tensor in map(self._of, node.symbols) if tensor.attention is not None]
        if _reads_no_masked_step(layer, held, tree.flatten(here)):
            held = []
        lost = None
        for output, mask, other in zip(outputs, masks, others, strict=True):
            kept = all(same(mask, before.mask) for before in held)
            attends = mask is not None and is_attention(layer)
            attention = node.path if attends else held[0].attention if held and kept else None
            source = id(node.symbols[0]) if _may_return_its_input(layer) and node.symbols else None
            self._tensors[id(output)] = _Tensor(mask, other, source, attention)
            lost = lost if kept else _dropped(node, str(held[0].attention))
        if _uses_masks(layer) and not same_all(here, there):
            lost = _unmasked(node, next(iter(self._taken.values())))
        if is_attention(layer) and some(there) and self._takes_mask(node, layer):
            self._taken[self._source(node.symbols[0])] = node.path
        return lost

    def of_output(self, symbol: Any, maker: Node) -> Lost | None:
        """Return why an output of the network may differ from Keras' at steps that Keras does not mask, or `None`."""
        tensor = self._of(symbol)
        if tensor.attention is None or same(self._in_keras(symbol), tensor.mask):
            return None
        return _unmasked(maker, next(iter(self._taken.values())))

    def _of(self, symbol: Any) -> _Tensor:
        return self._tensors.get(id(symbol), _Tensor())

    def _in_keras(self, symbol: Any) -> np.ndarray | None:
        return None if self._source(symbol) in self._taken else self._of(symbol).in_keras

    def _source(self, symbol: Any) -> int:
        key = id(symbol)
        while (tensor := self._tensors.get(key)) is not None and tensor.source is not None:
            key = tensor.source
        return key

    def _given(self, node: Node, layer: Any, in_keras: bool) -> Any:
        """Return the masks that a node gets, in the structure of its first argument."""
        explicit = node.kwargs.get("mask")
        if explicit is not None and not (in_keras and is_attention(layer)):
            return tree.map_structure(self._values.of, explicit)
        return tree.map_structure(lambda part: self._in_keras(part) if in_keras else self._of(part).mask, node.first)

    def _takes_mask(self, node: Node, layer: Any) -> bool:
        """Run an attention layer, to see whether it takes the mask off its input. Releases of Keras differ."""
        value = self._values.of(node.symbols[0])[:1]
        if len(value.shape) < 2:  # no series, so nothing can be tried
            return True
        x = mask_input(
            ops.convert_to_tensor(value, dtype=node.symbols[0].dtype), ops.ones(value.shape[:2], dtype="bool")
        )
        try:
            with keras.StatelessScope():
                layer(x, x, use_causal_mask=True)
        except Exception:  # it may run on inputs of the network alone
            return True
        return attached_mask(x) is None


def _dropped(node: Node, attention: str) -> Lost:
    what = (
        f"reads the masked steps of `{attention}` without their mask. Keras' attention gives a masked step the mean of all "
        "steps of the window, also of later ones"
    )
    return Lost(
        node,
        what,
        f"it ends the mask. Keep the mask from `{attention}` up to a recurrent layer or the output: `Add` (in place of "
        "`+`), `Dense`, `LayerNormalization` and `Dropout` keep it. Or put this before the attention, or leave out what "
        "masks steps (`Masking`, `mask_zero=True`)",
    )


def _unmasked(node: Node, attention: str) -> Lost:
    what = (
        f"has no mask in Keras, where `{attention}` takes the mask off the series that it attends to. Keras then uses the "
        "masked steps, to which attention gives the mean of all steps of the window, also of later ones"
    )
    return Lost(
        node,
        what,
        f"it loses the mask in Keras alone. Let `{attention}` attend to a series that no other layer reads, such as "
        "`LayerNormalization()(h)`, or leave out what masks steps (`Masking`, `mask_zero=True`)",
    )


def _reads_no_masked_step(layer: Any, held: Sequence[_Tensor], given: Sequence[Any]) -> bool:
    """Whether no output of a node depends on the steps that were masked in attention."""
    if type(layer).__name__ in ("ZerosLike", "OnesLike") and type(layer).__module__.startswith("keras."):
        return True
    if isinstance(layer, LinearRecurrence) and type(layer).read_out is not LinearRecurrence.read_out:
        return False
    return _skips_steps(layer) and all(same(mask, before.mask) for mask in given for before in held)


def _skips_steps(layer: Any) -> bool:
    return isinstance(layer, (layers.RNN, layers.Bidirectional, layers.GlobalAveragePooling1D, LinearRecurrence))


def _uses_masks(layer: Any) -> bool:
    """Whether the output of a layer at valid steps depends on the mask."""
    return is_attention(layer) or _skips_steps(layer)


def _may_return_its_input(layer: Any) -> bool:
    """Whether a layer may return the tensor that it is given, as `Dropout` does in inference."""
    if isinstance(layer, layers.Activation):
        return layer.activation is keras.activations.linear
    own = isinstance(layer, keras.Layer) and not type(layer).__module__.startswith(("keras.", "rnnstate."))
    return own or isinstance(layer, _PASSING)


_PASSING = (
    layers.Identity,
    layers.ActivityRegularization,
    layers.Dropout,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
)
