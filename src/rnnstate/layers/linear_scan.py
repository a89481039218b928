"""The linear recurrence h_t = a_t h_(t-1) + b_t over all steps of a window, in parallel.

A window is cut into blocks. All blocks advance together, one step at a time, from a state of zero. Next to its states h,
each block keeps p, the product of its decays. The last h and p of the blocks are a shorter recurrence, which is solved in
the same way. Its results are the states before the blocks, and each of them reaches every step of its block through p:

    time            0 1 2 3 | 4 5 6 7 | 8 9 10 11        three blocks of 4 steps
    h, from zero    0 1 2 3   0 1 2 3   0 1  2  3        4 steps, each on all blocks at once
    before          0         h_3       h_7              one recurrence over 3 blocks
    result          h + p * before

Nothing is divided, and no logarithm is taken. If |a_t| <= 1, the products p can only shrink. A product that is too small for
the float type becomes zero. Its contribution is smaller than the rounding of the result, so windows of any length are safe.

`keras.ops.associative_scan` computes the same, and the tests compare both. It is not used here: on PyTorch its buffers are
float32 on the default device, whatever its input is, and on TensorFlow it took several times as long.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rnnstate.state.state import Array

# A real number is one array. A complex number is two: the real and the imaginary part.
Number = tuple[Array, ...]

# Up to so many steps, a loop is written out.
WRITTEN_OUT = 16


def times(one: Number, other: Number) -> Number:
    """Return the product of two real or two complex numbers."""
    if len(one) == 1:
        return (one[0] * other[0],)
    (a, b), (c, d) = one, other
    return a * c - b * d, a * d + b * c


def plus(one: Number, other: Number) -> Number:
    """Return the sum of two numbers."""
    return tuple(a + b for a, b in zip(one, other, strict=True))


def linear_scan(decay: Number, drive: Number) -> Number:
    """Return the states of a linear recurrence that starts from zero.

    Args:
        decay: The factors a, each part `(batch, time, size)`. A batch of 1 stands for all rows.
        drive: The summands b, each part `(batch, time, size)`.

    Returns:
        The states after every step, each part `(batch, time, size)`.
    """
    time = drive[0].shape[1]
    if not isinstance(time, int):  # not known before the program runs
        return _looped(decay, drive)
    block = _block()
    if time <= block:
        return _in_block(decay, drive, axis=1)[1]
    count = -(-time // block)
    products, states = _in_block(_cut(decay, count, block), _cut(drive, count, block), axis=2)
    ends = linear_scan(_last(products), _last(states))
    before = tuple(ops.pad(end[:, :-1], ((0, 0), (1, 0), (0, 0)))[:, :, None] for end in ends)
    joined = plus(states, times(products, before))
    return tuple(ops.reshape(part, (-1, count * block, part.shape[-1]))[:, :time] for part in joined)


def _block() -> int:
    """Return the number of steps in a block. JAX loops without writing the steps out, which keeps programs short."""
    return 64 if keras.config.backend() == "jax" else WRITTEN_OUT


def _cut(number: Number, count: int, block: int) -> Number:
    """Cut `(batch, time, size)` into `(batch, count, block, size)`, with zeros at the end."""

    def cut(part: Array) -> Array:
        padded = ops.pad(part, ((0, 0), (0, count * block - part.shape[1]), (0, 0)))
        return ops.reshape(padded, (-1, count, block, part.shape[-1]))

    return tuple(cut(part) for part in number)


def _last(number: Number) -> Number:
    return tuple(part[:, :, -1] for part in number)


def _in_block(decay: Number, drive: Number, axis: int) -> tuple[Number, Number]:
    """Return the products of the decays, and the states from zero, up to every step along an axis."""
    steps = drive[0].shape[axis]
    if steps > WRITTEN_OUT:
        return _scanned_block(decay, drive, axis)
    factors, summands = _unstacked(decay, axis), _unstacked(drive, axis)
    products, states = [factors[0]], [summands[0]]
    for a, b in zip(factors[1:], summands[1:], strict=True):
        products.append(times(a, products[-1]))
        states.append(plus(times(a, states[-1]), b))
    return _stacked(products, axis), _stacked(states, axis)


def _unstacked(number: Number, axis: int) -> list[Number]:
    # On PyTorch, the gradient of one `unstack` is one `stack`. The gradient of each slice would be a whole array of zeros.
    return list(zip(*(ops.unstack(part, axis=axis) for part in number), strict=True))


def _stacked(numbers: Sequence[Number], axis: int) -> Number:
    return tuple(ops.stack(parts, axis=axis) for parts in zip(*numbers, strict=True))


def _scanned_block(decay: Number, drive: Number, axis: int) -> tuple[Number, Number]:
    def one_step(carried: Any, step: Any) -> tuple[Any, Any]:
        (product, state), (a, b) = carried, step
        after = times(a, product), plus(times(a, state), b)
        return after, after

    by_step = tuple(tuple(ops.moveaxis(part, axis, 0) for part in number) for number in (decay, drive))
    one = _one_like(tuple(part[0] for part in by_step[0]))
    start = one, tuple(ops.zeros_like(part[0]) for part in by_step[1])
    _, stacked = ops.scan(one_step, start, by_step)
    products, states = (tuple(ops.moveaxis(part, 0, axis) for part in number) for number in stacked)
    return products, states


def _one_like(number: Number) -> Number:
    return (ops.ones_like(number[0]), *(ops.zeros_like(part) for part in number[1:]))


def _looped(decay: Number, drive: Number) -> Number:
    """Run one step at a time, for any number of steps."""
    shape, size, dtype = ops.shape(drive[0]), drive[0].shape[-1], keras.backend.standardize_dtype(drive[0].dtype)
    x = ops.concatenate([*(ops.broadcast_to(part, shape) for part in decay), *drive], axis=-1)
    # The loop of `keras.layers.RNN` runs for an unknown number of steps on every backend, and in exported files.
    # `ops.scan` does not on TensorFlow.
    cell = _Step(len(drive), size, name="linear_step", dtype=dtype)
    loop = keras.layers.RNN(cell, return_sequences=True, name="linear_scan", dtype=dtype)
    start = [ops.zeros((shape[0], size), dtype=dtype) for _ in drive]
    return tuple(ops.split(loop(x, initial_state=start), len(drive), axis=-1))


class _Step(keras.layers.Layer):
    """One step as a cell. Its input holds all parts of the factor, then all parts of the summand."""

    def __init__(self, parts: int, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts, self.state_size, self.output_size = parts, [size] * parts, parts * size

    def call(self, inputs: Array, states: Any) -> tuple[Array, list[Array]]:
        numbers = ops.split(inputs, 2 * self.parts, axis=-1)
        decay, drive = tuple(numbers[: self.parts]), tuple(numbers[self.parts :])
        after = plus(times(decay, tuple(states)), drive)
        return ops.concatenate(after, axis=-1), list(after)
