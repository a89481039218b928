"""TensorFlow on the CPU: the native loops, as an operator with its own backward pass.

    native_loop ──►  run                (outputs, final), differentiable once
                       ├─ forward       one call: the input is projected, h and the gates of each step are saved
                       └─ gradients     three calls: the loop back, the gradients of the kernels, the gradient of x

XLA cannot compile the operator, and an exported file cannot hold it. TensorFlow does not tell a traced function whether XLA
will compile it. So native loops run only inside `without_xla`, in which a model traces its compiled steps.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NamedTuple

import tensorflow as tf

from rnnstate.kernels.loops.definition import GATES, Array, Leaves, Loop, begins_with_h
from rnnstate.kernels.loops.once_tensorflow import differentiable_once
from rnnstate.kernels.native import tensorflow_call
from rnnstate.kernels.native.library import is_supported
from rnnstate.kernels.native.tensorflow_call import BACK, CELLS, FORWARD, GRADIENT_OF_X, SUMS, call_loop
from rnnstate.kernels.native.tensorflow_check import check_numbers

_without_xla: ContextVar[bool] = ContextVar("without_xla", default=False)


@contextmanager
def without_xla() -> Iterator[None]:
    """Let functions that are traced here use native loops. XLA must not compile them, and no file may hold them."""
    token = _without_xla.set(True)
    try:
        yield
    finally:
        _without_xla.reset(token)


def may_run_native() -> bool:
    """Tell whether a function is traced that can hold native loops."""
    return _without_xla.get() and not tf.executing_eagerly()


def has_native_loop(loop: Loop) -> bool:
    """Tell whether a loop can run as native code."""
    return bool(
        loop.kind in CELLS
        and not loop.recurrent_dropout
        and len(loop.dropout) < 2
        and loop.x.dtype == tf.float32
        and loop.x.shape[2]
        and not tf.distribute.has_strategy()
        and not tf.config.list_logical_devices("GPU")
        and has_library()
    )


@cache
def has_library() -> bool:
    """Tell whether native code can run: the library is there or can be compiled, and gives the right numbers.

    The answer is kept for the process. If something fails, one warning says what.
    """
    if not is_supported():
        return False
    try:
        _register()
        check_numbers()
    except Exception as error:
        warnings.warn(
            "The native loops cannot be loaded, so TensorFlow's own loops run, which are slower. "
            f"Received: {error!r}. Install rnnstate from a wheel for this platform, or install a C compiler.",
            stacklevel=2,
        )
        return False
    return True


@cache
def _register() -> None:
    tensorflow_call.register()


class _Call(NamedTuple):
    """The inputs of a native loop, in their exact shapes. Gradients flow into all but the flags."""

    x: Array
    kernel: Array
    recurrent: Array
    bias: Array | None
    state: Leaves
    initial: Leaves
    mask: Array | None
    reset: Array | None
    holds: bool

    def numbers(self) -> list[Array]:
        """Return the arrays that gradients flow into, in the order of the operator."""
        bias = [] if self.bias is None else [self.bias]
        return [self.x, self.kernel, self.recurrent, *self.state, *self.initial, *bias]

    def packed(self, numbers: Any) -> "_Call":
        """Return the call with other arrays in the places of `numbers`."""
        x, kernel, recurrent, *rest = numbers
        state, initial = rest[: len(self.state)], rest[len(self.state) : len(self.state) + len(self.initial)]
        bias = None if self.bias is None else rest[-1]
        return _Call(x, kernel, recurrent, bias, tuple(state), tuple(initial), self.mask, self.reset, self.holds)


class _Made(NamedTuple):
    """All results of a call forward. The way back reads `h`, `gates` and `kept`."""

    outputs: Array
    final: Leaves
    h: Array
    gates: Array
    kept: Leaves


def native_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop in the graph that is traced."""
    if loop.dropout:
        loop = loop._replace(x=loop.x * loop.dropout[0][:, None], dropout=())
    kind, call = loop.kind, in_shape(loop)

    @tf.custom_gradient
    def run(*numbers: Array) -> Any:
        given = call.packed(numbers)
        made = _forward(kind, given)

        def gradients(d_outputs: Array, *d_final: Array) -> list[Array]:
            back = partial(_back, kind, given, made, d_outputs, d_final)
            return differentiable_once(back, [*numbers, d_outputs, *d_final])

        return (made.outputs, *made.final), gradients

    outputs, *final = run(*call.numbers())
    return outputs, tuple(final)


def in_shape(loop: Loop) -> _Call:
    """Return the inputs of a loop. The operator checks at each call that their shapes fit together."""
    (batch, time, features), units = loop.x.shape, loop.recurrent.shape[0]
    width, rows = GATES[loop.kind] * units, tf.shape(loop.x)[0]
    initial = () if loop.reset is None else loop.initial or loop.state

    def leaves(given: Leaves) -> Leaves:
        return tuple(_shaped(tf.cast(leaf, tf.float32), (batch, units), (rows, units)) for leaf in given)

    def flags(given: Array | None) -> Array | None:
        steps = tf.shape(loop.x)[1]
        return None if given is None else _shaped(tf.cast(given, tf.bool), (batch, time), (rows, steps))

    bias_shape = (2, width)[loop.kind != "gru" :]
    return _Call(
        tf.convert_to_tensor(loop.x),
        _shaped(loop.kernel, (features, width)),
        _shaped(loop.recurrent, (units, width)),
        None if loop.bias is None else _shaped(loop.bias, bias_shape),
        leaves(loop.state),
        leaves(initial),
        flags(loop.mask),
        flags(loop.reset),
        holds=loop.mask is not None and not begins_with_h(loop),
    )


def _shaped(array: Array, shape: tuple[int | None, ...], sizes: Any = None) -> Array:
    """Return an array of a shape as a tensor. `sizes` holds the sizes that are known when the graph runs."""
    tensor = tf.convert_to_tensor(array)
    return tensor if tensor.shape.as_list() == list(shape) else tf.broadcast_to(tensor, sizes or shape)


def _forward(kind: str, call: _Call) -> _Made:
    (batch, time, _), units, leaves = call.x.shape, call.recurrent.shape[0], len(call.state)
    count = 2 + (kind != "rnn") + leaves + call.holds
    flags = call.mask, call.reset, call.bias is not None, call.holds
    h, gates, *rest = call_loop(kind, FORWARD, call.numbers(), count, *flags)
    kept, final = rest[: kind != "rnn"], rest[kind != "rnn" :][:leaves]
    outputs = rest[-1] if call.holds else h
    outputs.set_shape((batch, time, units))
    for leaf in final:
        leaf.set_shape((batch, units))
    return _Made(outputs, tuple(final), h, gates, tuple(kept))


def _back(kind: str, call: _Call, made: _Made, d_outputs: Array, d_final: Leaves) -> list[Array]:
    """Return the gradients of `call.numbers()`. The first call may overwrite the gates."""
    is_gru = kind == "gru"
    ends = [*call.state, *call.initial]
    numbers = [call.recurrent, made.h, *ends, d_outputs, *d_final, made.gates, *made.kept]
    d_gates, *rest = call_loop(kind, BACK, numbers, 1 + is_gru + len(ends), call.mask, call.reset, holds=call.holds)
    d_kept, d_ends = rest[:is_gru], rest[is_gru:]
    starts = [call.state[0], *call.initial[:1]]
    sums = call_loop(kind, SUMS, [call.x, made.h, d_gates, *starts, *d_kept], 3, reset=call.reset)
    d_kernel, d_recurrent, d_bias = sums
    with tf.control_dependencies([d_kernel]):  # one call after another: each uses all cores and their caches
        (d_x,) = call_loop(kind, GRADIENT_OF_X, [d_gates, call.kernel], 1)
    found = [d_x, d_kernel, d_recurrent, *d_ends, *([] if call.bias is None else [d_bias])]
    for gradient, array in zip(found, call.numbers(), strict=True):
        gradient.set_shape(array.shape)
    return found
