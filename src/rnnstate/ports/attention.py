"""The port of causal self-attention: the layer remembers the keys and values of the last W steps.

W is `attention_window`. Each step attends to itself and to the W steps before it, so its outputs equal attention over the
whole sequence with a banded causal mask:

    keys         -3 -2 -1  0  1  2  3     W = 3: the memory, then a window of 4 steps
    step 0        *  *  *  *
    step 1           *  *  *  *
    step 3                 *  *  *  *

The leaf `valid` is 1 where the memory holds a step and 0 where the sequence had not begun, or where the network masked the
step. Training with this memory is the segment recurrence of Transformer-XL: no gradient flows into the memory. There the
inputs of the layer are kept and projected again; here their projections are kept, so a memory also does not follow changes
of the projections' weights, and its part of the scores gives these weights no gradient.

References:
    - Dai et al., "Transformer-XL: Attentive language models beyond a fixed-length context", ACL 2019.
"""

from collections.abc import Mapping
from typing import Any

from keras import layers, ops

from rnnstate.ports.protocol import LocalState, Port
from rnnstate.ports.steps import Steps, only_existing, place, remembered
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array

Window = int | Mapping[str, int] | None
_STOCK = (layers.MultiHeadAttention, layers.GroupQueryAttention)
_HOOKS = {"call", "_compute_attention", "_masked_softmax"}
NO_WINDOW = (
    "Its memory must be bounded: use `StatefulModel(net, attention_window=W)`, with which each step attends to the W steps "
    "before it, and call the layer with `use_causal_mask=True`"
)


def is_attention(layer: Any) -> bool:
    """True for the attention layers that this port carries."""
    return isinstance(layer, _STOCK)


def window_of(layer: Any, window: Window) -> int | None:
    """Return how many earlier steps an attention layer reaches; `None` if it reaches all of them.

    Args:
        layer: An attention layer. With `sliding_window=n` it reaches n - 1 steps back.
        window: One number, or one by layer name.
    """
    asked = window.get(layer.name) if isinstance(window, Mapping) else window
    own = _sliding_window(layer)
    limits = [limit for limit in (asked, None if own is None else own - 1) if limit is not None]
    return min(limits, default=None)


def _sliding_window(layer: Any) -> int | None:
    """Return the argument `sliding_window` of a layer. Its config tells too, but to make a config may import TensorFlow."""
    named = vars(layer)
    own: int | None = named["_sliding_window"] if "_sliding_window" in named else layer.get_config()["sliding_window"]
    return own


class AttentionPort(Port):
    """Port of `MultiHeadAttention` and `GroupQueryAttention` where a series attends to itself, causally.

    Attributes:
        window: How many earlier steps each step attends to.
    """

    window = 0

    @classmethod
    def refuses(cls, layer: Any) -> str | None:
        stock = next(i for i, kind in enumerate(type(layer).__mro__) if kind in _STOCK)
        if any(_HOOKS & set(vars(kind)) for kind in type(layer).__mro__[:stock]):
            return (
                f"its class {type(layer).__name__} computes attention itself. Register a port: `rnnstate.register_port`"
            )
        axes = getattr(layer, "attention_axes", None)
        if axes not in (None, (1,)):
            return f"it attends over the axes {axes}, not over time alone. Use inputs (batch, time, features)"
        return None

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        if not self.window:
            return {}
        heads, key_dim, value_dim = _sizes(layer)
        dtype = layer.variable_dtype
        return {
            "keys": LeafSpec((self.window, heads, key_dim), dtype),
            "values": LeafSpec((self.window, heads, value_dim), dtype),
            "valid": LeafSpec((self.window,), dtype),
        }

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
        attached: Array | None = None,
    ) -> tuple[Array, LocalState]:
        parts = _inner(self.layer, layers.EinsumDense)
        new = {"keys": parts["key"](x), "values": parts["value"](x)}
        new["valid"] = ops.ones(ops.shape(x)[:2], x.dtype) if attached is None else ops.cast(attached, x.dtype)
        past = _as(state, new)
        steps = place(ops.shape(x)[:2], mask, reset)
        fresh = _as(initial, new) if reset is not None and initial is not None else past
        memories = [memory for memory in ([past] if reset is None else [fresh, past]) if memory]
        sees = self._sees(new["valid"], steps, mask, reset, memories)
        keys, values = (
            ops.concatenate([*(m[name] for m in memories), new[name]], axis=1) for name in ("keys", "values")
        )
        y = self._attend(x, keys, values, sees, training)
        final = {name: self._after(past[name], new[name], steps, mask, reset, fresh[name]) for name in past}
        return only_existing(y, mask), final

    def _after(
        self, past: Array, new: Array, steps: Steps, mask: Array | None, reset: Array | None, initial: Array
    ) -> Array:
        """Return one leaf after the window."""
        if mask is None and reset is None:
            return ops.concatenate([past, new], axis=1)[:, -self.window :]
        return remembered(past, new, steps, initial)

    def _sees(
        self, valid: Array, steps: Steps, mask: Array | None, reset: Array | None, memories: list[LocalState]
    ) -> Array:
        """Return which keys each step attends to, `(batch, time, keys)`: keys of the memories, then of the window."""
        rank = steps.rank[:, :, None]
        behind = rank - steps.rank[:, None, :]  # how many steps each key of the window lies behind each step
        shown = valid > 0 if mask is None else ops.logical_and(valid > 0, mask)
        window = ops.logical_and(ops.logical_and(behind >= 0, behind <= self.window), shown[:, None, :])
        if reset is not None:
            episode = ops.cumsum(ops.cast(reset, "int32"), axis=1)
            window = ops.logical_and(window, ops.equal(episode[:, :, None], episode[:, None, :]))
        # Every step attends to itself, also one that is masked: a softmax over no key is no number.
        time = ops.arange(valid.shape[1] or ops.shape(valid)[1])
        parts = [ops.logical_or(window, ops.equal(time[:, None], time))]
        before = ops.arange(self.window, 0, -1, dtype="int32")  # how many steps the memory lies behind its end
        for memory, again in zip(reversed(memories), (False, True), strict=False):
            reached = rank - (steps.start[:, :, None] if again else 0) + before <= self.window
            belongs = ops.logical_and(reached, ops.equal(steps.again[:, :, None], again))
            # The comparison comes before the new axis: LiteRT's XNNPACK may read a reshaped input from the call before.
            parts.insert(0, ops.logical_and(belongs, (memory["valid"] > 0)[:, None, :]))
        return ops.concatenate(parts, axis=2)

    def _attend(self, x: Array, keys: Array, values: Array, sees: Array, training: bool) -> Array:
        """Return the output of the layer at each step, `(batch, time, outputs)`."""
        parts = _inner(self.layer, layers.EinsumDense)
        query = parts["query"](x)
        repeats = query.shape[2] // keys.shape[2]  # several query heads share a key in `GroupQueryAttention`
        if repeats > 1:
            keys, values = ops.repeat(keys, repeats, axis=2), ops.repeat(values, repeats, axis=2)
        query = query * ops.cast(1 / query.shape[3] ** 0.5, query.dtype)
        weights = _softmax(ops.einsum("bqhd,bkhd->bhqk", query, keys), sees[:, None])
        for dropout in _inner(self.layer, layers.Dropout).values():
            weights = dropout(weights, training=training)
        y = ops.einsum("bhqk,bkhd->bqhd", weights, values)
        y = y * parts["gate"](x) if "gate" in parts else y
        return parts["attention_output"](y)


def _as(memory: Mapping[str, Array] | None, new: Mapping[str, Array]) -> LocalState:
    return {name: ops.cast(leaf, new[name].dtype) for name, leaf in (memory or {}).items()}


def _softmax(scores: Array, sees: Array) -> Array:
    low = ops.cast(-3e4, scores.dtype)  # within the range of half precision
    return ops.softmax(ops.where(sees, scores, low), axis=-1)


def _inner(layer: Any, kind: Any) -> dict[str, Any]:
    """Return the layers of a kind inside an attention layer by the names that Keras gives them: query, key, and so on."""
    found: dict[str, Any] = {}
    for value in vars(layer).values():
        # On PyTorch, a layer keeps its inner layers in a dictionary.
        parts: Any = (
            value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        )
        found.update({part.name: part for part in parts if isinstance(part, kind)})
    return found


def _sizes(layer: Any) -> tuple[int, int, int]:
    """Return the number of key heads, and the sizes of a key and of a value."""
    if isinstance(layer, layers.GroupQueryAttention):
        return layer.num_key_value_heads, layer.head_dim, layer.head_dim
    return layer.num_heads, layer.key_dim, layer.value_dim
