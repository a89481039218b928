"""TensorFlow: the native loops in the compiled steps of a model on the CPU, and the hoisted loops elsewhere.

XLA compiles the hoisted loops, unless they are large, even inside a graph that it does not compile. They can be
differentiated once, because TensorFlow cannot differentiate a function that XLA compiled. Keras runs LSTM and GRU on a GPU,
with cuDNN.
"""

import math
from functools import cache, lru_cache, partial
from typing import Any

import tensorflow as tf
from keras import tree

from rnnstate.kernels.loops.definition import Array, Leaves, Loop
from rnnstate.kernels.loops.native_tensorflow import has_native_loop, may_run_native, native_loop
from rnnstate.kernels.loops.once_tensorflow import differentiable_once
from rnnstate.kernels.loops.scanned import Inputs, backward, forward, hoisted_loop

# The most numbers of a leaf over all steps of a window. XLA allocates its memory in each call. Beyond this size the system
# gives out the memory page by page, which costs more time than compilation saves.
XLA_UP_TO = 1 << 20


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Return whether this loop is faster than Keras' loop, which is cuDNN's for LSTM and GRU on a GPU."""
    return kind not in ("lstm", "gru") or flags or recurrent_dropout > 0 or not tf.config.list_logical_devices("GPU")


def no_loop_because(kind: str) -> str | None:
    """Return `None`: this backend has a fast loop for each kind of layer."""
    return None


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop."""
    return native_loop(loop) if may_run_native() and has_native_loop(loop) else loop_of_tensorflow(loop)


def loop_of_tensorflow(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop with the operators of TensorFlow."""
    return hoisted_loop(loop, _run)


def _run(kind: str, inputs: Inputs) -> tuple[Array, Leaves]:
    @tf.custom_gradient
    def run(*arrays: Array) -> Any:
        given = _packed(inputs, arrays)
        final, states, gates = _compiled(_save, kind, given)

        def gradients(*d_results: Array) -> Any:
            saved = (given, states, gates, d_results)
            left = iter(differentiable_once(partial(_compiled, _back, kind, *saved), _arrays(saved)))
            return [next(left) if array.dtype.is_floating else None for array in arrays]

        return (states[0], *final), gradients

    # A custom gradient treats a variable among its arguments differently, so weights become tensors first.
    outputs, *final = run(*map(tf.convert_to_tensor, _arrays(inputs)))
    return outputs, tuple(final)


def _save(kind: str, inputs: Inputs) -> Any:
    final, (states, gates) = forward(kind, inputs, _scan, save=True)
    return final, states, gates


def _back(kind: str, inputs: Inputs, states: Leaves, gates: Leaves, d_results: Leaves) -> list[Array]:
    d_outputs, *d_final = d_results
    found = backward(kind, (inputs, states, gates), (d_outputs, tuple(d_final)), _scan)
    return _arrays(found)


def _compiled(function: Any, kind: str, *given: Any) -> Any:
    """Call a function that is traced once for each structure and shape, and compiled by XLA if that is faster."""
    specs = tree.map_structure(lambda part: None if part is None else tf.TensorSpec(part.shape, part.dtype), given)
    with tf.init_scope():  # a stored function must not belong to the graph that is being traced
        made = _made(function, kind, specs, pays(given[0]) and has_xla())
    # A tape that watched the inputs would try to differentiate the compiled loops.
    return made(*map(tf.stop_gradient, _arrays(given)))


def pays(inputs: Inputs) -> bool:
    """Return whether a loop is small enough that XLA makes it faster, or has an unknown shape."""
    shape = (*inputs.projected.shape[:2], inputs.recurrent.shape[0])
    return None in shape or math.prod(shape) <= XLA_UP_TO


@lru_cache(maxsize=1024)
def _made(function: Any, kind: str, specs: Any, compiled: bool) -> Any:
    def flat(*arrays: Array) -> Any:
        return function(kind, *_packed(specs, arrays))

    return tf.function(flat, jit_compile=compiled, autograph=False).get_concrete_function(*_arrays(specs))


@cache
def has_xla() -> bool:
    """Return whether this build of TensorFlow has XLA. Without XLA, the loops run uncompiled."""
    try:
        tf.function(lambda: tf.zeros(1) + 1.0, jit_compile=True)()
    except tf.errors.OpError:
        return False
    return True


def _scan(step: Any, carry: Any, given: Any, reverse: bool) -> Any:
    """Scan like `jax.lax.scan`, with a separate array for each part of a step, because XLA copies none of these."""
    parts = _arrays(given)
    time = tf.shape(parts[0])[0]
    sources = [tf.TensorArray(part.dtype, size=time).unstack(part) for part in parts]
    first = step(carry, _packed(given, [part[0] for part in parts]))[1]
    results = [tf.TensorArray(part.dtype, size=time, element_shape=part.shape) for part in _arrays(first)]

    def body(done: Array, flat: Any, results: Any) -> Any:
        t = time - 1 - done if reverse else done
        after, made = step(_packed(carry, flat), _packed(given, [source.read(t) for source in sources]))
        written = [result.write(t, part) for result, part in zip(results, _arrays(made), strict=True)]
        return done + 1, _arrays(after), written

    start = (tf.constant(0), _arrays(carry), results)
    _, flat, results = tf.while_loop(lambda done, *_: done < time, body, start, maximum_iterations=time)
    stacked = [result.stack() for result in results]
    for part in stacked:  # the next layer accepts a mask only if the length of the time axis is known
        part.set_shape([parts[0].shape[0], *part.shape[1:]])
    return _packed(carry, flat), _packed(first, stacked)


def _arrays(nested: Any) -> list[Array]:
    """Return the arrays of a nested structure, without the parts that are `None`."""
    return [part for part in tree.flatten(nested) if part is not None]


def _packed(like: Any, arrays: Any) -> Any:
    """Return the arrays in the structure of `like`, which may have parts that are `None`."""
    left = iter(arrays)
    return tree.pack_sequence_as(like, [None if part is None else next(left) for part in tree.flatten(like)])
