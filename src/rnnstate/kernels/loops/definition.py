"""The definition of the recurrent loops in a few lines of `keras.ops`. The tests compare every fast loop with it.

A loop runs one of Keras' cells over a window. A masked step keeps the state and repeats the output. A reset returns a row
to its initial leaves before the step. The kernels hold the gates next to each other, in Keras' order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import config, ops

Array = Any
Leaves = tuple[Array, ...]


class Loop(NamedTuple):
    """One run of a recurrent loop, as arrays.

    Args:
        kind: `"lstm"`, `"gru"` (`reset_after=True`), `"gru_before"` or `"rnn"`.
        x: Input `(batch, time, features)`.
        kernel: `(features, gates * units)`.
        recurrent: Recurrent kernel `(units, gates * units)`.
        bias: `(gates * units,)`, `(2, gates * units)` for `"gru"`, or `None`.
        state: Leaves `(batch, units)` to start from: `(h, c)` or `(h,)`.
        mask: Boolean `(batch, time)` of the valid steps, or `None`.
        reset: Boolean `(batch, time)` of the steps before which a row returns to `initial`, or `None`.
        initial: Leaves after a reset, `(batch, units)`.
        dropout: Dropout factors of the input: one `(batch, features)` for all gates, or one for each gate.
        recurrent_dropout: Dropout factors of h: one `(batch, units)` for all gates, or one for each gate.
        repeats_h: Whether the output before a row's first valid step is h from before the window, where no step has a
            reset. Otherwise it is zero. On JAX it is h in any case, as in Keras' loops.
    """

    kind: str
    x: Array
    kernel: Array
    recurrent: Array
    bias: Array | None
    state: Leaves
    mask: Array | None = None
    reset: Array | None = None
    initial: Leaves | None = None
    dropout: Leaves = ()
    recurrent_dropout: Leaves = ()
    repeats_h: bool = False


def ends_of(loop: Loop) -> Leaves:
    """Return the leaves before the window, and the leaves after a reset if there are resets."""
    return loop.state if loop.reset is None else (*loop.state, *(loop.initial or loop.state))


GATES = {"lstm": 4, "gru": 3, "gru_before": 3, "rnn": 1}


def product(
    factors: Leaves, rows: Array, kernel: Array, gates: int, multiply: Callable[[Array, Array], Array] = ops.matmul
) -> Array:
    """Multiply the rows by dropout factors, then by the kernel. Either all gates share a factor, or each gate has one."""
    if len(factors) < 2:
        return multiply(rows * factors[0] if factors else rows, kernel)
    parts = zip(factors, ops.split(kernel, gates, axis=-1), strict=True)
    return ops.concatenate([multiply(rows * factor, part) for factor, part in parts], axis=-1)


def lstm(x: Array, state: Leaves, recur: Callable[..., Array]) -> Leaves:
    """Run an LSTM cell. `x` is the projected input of the step; `recur(h)` is h times the recurrent kernel."""
    h, c = state
    i, f, g, o = ops.split(x + recur(h), 4, axis=-1)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


def gru(x: Array, state: Leaves, recur: Callable[..., Array]) -> Leaves:
    """Run a GRU cell whose reset gate acts after the product with the recurrent kernel."""
    (h,) = state
    (x_z, x_r, x_h), (h_z, h_r, h_h) = ops.split(x, 3, axis=-1), ops.split(recur(h), 3, axis=-1)
    z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
    return (z * h + (1 - z) * ops.tanh(x_h + r * h_h),)


def gru_before(x: Array, state: Leaves, recur: Callable[..., Array]) -> Leaves:
    """Run a GRU cell whose reset gate acts before the product with the recurrent kernel."""
    (h,) = state
    (x_z, x_r, x_h), (h_z, h_r, _) = ops.split(x, 3, axis=-1), ops.split(recur(h), 3, axis=-1)
    z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
    h_h = ops.split(recur(r * h), 3, axis=-1)[2]
    return (z * h + (1 - z) * ops.tanh(x_h + h_h),)


def rnn(x: Array, state: Leaves, recur: Callable[..., Array]) -> Leaves:
    """Run the cell of a SimpleRNN."""
    return (ops.tanh(x + recur(state[0])),)


CELLS: dict[str, Callable[..., Leaves]] = {"lstm": lstm, "gru": gru, "gru_before": gru_before, "rnn": rnn}


def biases(loop: Loop) -> tuple[Array, Array]:
    """Return the biases of the input and of the recurrent product. Only `"gru"` has a bias of the recurrent product."""
    if loop.bias is None:
        return 0.0, 0.0
    return (loop.bias[0], loop.bias[1]) if loop.kind == "gru" else (loop.bias, 0.0)


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop one step at a time.

    Args:
        loop: The loop to run.

    Returns:
        The outputs `(batch, time, units)`, and the leaves after the last valid step.
    """
    gates = GATES[loop.kind]
    bias, recurrent_bias = biases(loop)
    state, outputs = loop.state, []
    y = state[0] if begins_with_h(loop) else ops.zeros_like(state[0])
    for t in range(loop.x.shape[1]):
        x = product(loop.dropout, loop.x[:, t], loop.kernel, gates) + bias
        before = state if loop.reset is None else _where(loop.reset[:, t], loop.initial or loop.state, state)
        state = CELLS[loop.kind](
            x, before, lambda h: product(loop.recurrent_dropout, h, loop.recurrent, gates) + recurrent_bias
        )
        (y,) = state[:1] if loop.mask is None else _where(loop.mask[:, t], state[:1], (y,))
        state = state if loop.mask is None else _where(loop.mask[:, t], state, before)
        outputs.append(y)
    return ops.stack(outputs, axis=1), state


def begins_with_h(loop: Loop) -> bool:
    """Return whether the output before a row's first valid step is h, and not zero. Then each output is h."""
    return loop.reset is None and (loop.repeats_h or config.backend() == "jax")


def _where(rows: Array, state: Leaves, otherwise: Leaves) -> Leaves:
    return tuple(ops.where(rows[:, None], one, other) for one, other in zip(state, otherwise, strict=True))


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Return whether this backend has a loop that is faster than Keras' loop. The reference has none.

    Args:
        kind: Kind of the loop.
        flags: Whether there are masked steps or resets.
        dropout: Number of dropout factors of the input.
        recurrent_dropout: Number of dropout factors of h.
    """
    return False


def no_loop_because(kind: str) -> str | None:
    """Say why this backend has no fast loop for a kind of layer, or `None` if it has one."""
    return "this backend has no faster loop than Keras' own"
