"""The cells of the hoisted loops: one step forward, and one step backward from the saved gates.

`recur(h, gates)` multiplies h by the recurrent kernel; `back(d_z, gates)` is its backward pass. `backward` returns the
gradients of the projected input, of the recurrent product and of the leaves before the step. It returns `None` for the
recurrent product if that gradient equals the gradient of the projected input.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from rnnstate.kernels.loops.definition import Array, Leaves


class Cell(NamedTuple):
    """One kind of cell.

    Args:
        forward: `(projected, leaves, recur) -> (leaves, gates)`.
        backward: `(d_leaves, before, after, gates, back) -> (d_projected, d_recurrent_product, d_before)`.
        multiplied: `(h before the step, gates) -> factors` of the recurrent kernel: one for all gates, or one for each.
        parts: The groups of gates whose recurrent products are computed together.
    """

    forward: Callable[..., tuple[Leaves, Leaves]]
    backward: Callable[..., tuple[Array, Array | None, Leaves]]
    multiplied: Callable[[Array, Leaves], Leaves]
    parts: tuple[slice, ...] = (slice(None),)


def _lstm_forward(projected: Array, state: Leaves, recur: Any) -> tuple[Leaves, Leaves]:
    h, c = state
    i, f, g, o = ops.split(projected + recur(h), 4, axis=-1)
    i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
    c = f * c + i * g
    tanh_c = ops.tanh(c)
    return (o * tanh_c, c), (i, f, g, o, tanh_c)


def _lstm_backward(d_state: Leaves, old: Leaves, _: Leaves, gates: Leaves, back: Any) -> tuple[Array, None, Leaves]:
    d_h, d_c = d_state
    i, f, g, o, tanh_c = gates
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_gates = [d_c * g * i * (1 - i), d_c * old[1] * f * (1 - f), d_c * i * (1 - g * g), d_h * tanh_c * o * (1 - o)]
    d_z = ops.concatenate(d_gates, axis=-1)
    return d_z, None, (back(d_z), d_c * f)


def _gru_forward(projected: Array, state: Leaves, recur: Any) -> tuple[Leaves, Leaves]:
    (h,) = state
    (x_z, x_r, x_h), (h_z, h_r, h_h) = ops.split(projected, 3, axis=-1), ops.split(recur(h), 3, axis=-1)
    z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
    new = ops.tanh(x_h + r * h_h)
    return (z * h + (1 - z) * new,), (z, r, new, h_h)


def _gru_backward(d_state: Leaves, old: Leaves, _: Leaves, gates: Leaves, back: Any) -> tuple[Array, Array, Leaves]:
    (d_h,), (h,), (z, r, new, h_h) = d_state, old, gates
    d_z = d_h * (h - new) * z * (1 - z)
    d_new = d_h * (1 - z) * (1 - new * new)
    d_r = d_new * h_h * r * (1 - r)
    d_product = ops.concatenate([d_z, d_r, d_new * r], axis=-1)
    return ops.concatenate([d_z, d_r, d_new], axis=-1), d_product, (d_h * z + back(d_product),)


_Z_R, _NEW = slice(0, 2), slice(2, 3)


def _gru_before_forward(projected: Array, state: Leaves, recur: Any) -> tuple[Leaves, Leaves]:
    (h,) = state
    (x_z, x_r, x_h), (h_z, h_r) = ops.split(projected, 3, axis=-1), ops.split(recur(h, _Z_R), 2, axis=-1)
    z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
    new = ops.tanh(x_h + recur(r * h, _NEW))
    return (z * h + (1 - z) * new,), (z, r, new)


def _gru_before_backward(
    d_state: Leaves, old: Leaves, _: Leaves, gates: Leaves, back: Any
) -> tuple[Array, None, Leaves]:
    (d_h,), (h,), (z, r, new) = d_state, old, gates
    d_z = d_h * (h - new) * z * (1 - z)
    d_new = d_h * (1 - z) * (1 - new * new)
    d_gated = back(d_new, _NEW)
    d_r = d_gated * h * r * (1 - r)
    d_zr = ops.concatenate([d_z, d_r], axis=-1)
    return ops.concatenate([d_zr, d_new], axis=-1), None, (d_h * z + d_gated * r + back(d_zr, _Z_R),)


def _rnn_forward(projected: Array, state: Leaves, recur: Any) -> tuple[Leaves, Leaves]:
    return (ops.tanh(projected + recur(state[0])),), ()


def _rnn_backward(d_state: Leaves, _: Leaves, new: Leaves, gates: Leaves, back: Any) -> tuple[Array, None, Leaves]:
    # At a masked step `new` is not the result of tanh, but `d_state` is zero there.
    d_z = d_state[0] * (1 - new[0] * new[0])
    return d_z, None, (back(d_z),)


def _only_h(h: Array, gates: Leaves) -> Leaves:
    return (h,)


CELLS = {
    "lstm": Cell(_lstm_forward, _lstm_backward, _only_h),
    "gru": Cell(_gru_forward, _gru_backward, _only_h),
    "gru_before": Cell(_gru_before_forward, _gru_before_backward, lambda h, gates: (h, h, gates[1] * h), (_Z_R, _NEW)),
    "rnn": Cell(_rnn_forward, _rnn_backward, _only_h),
}
