"""TensorFlow: the hoisted loops. XLA compiles them even where the graph around them is not compiled, unless they are large.

They can be differentiated once: TensorFlow has no way back through what XLA has compiled. LSTM and GRU on a GPU are left
to Keras, which takes cuDNN's there.
"""

import math
from functools import cache, lru_cache
from typing import Any

import tensorflow as tf
from keras import tree

from rnnstate.kernels.loops.definition import Array, Leaves, Loop
from rnnstate.kernels.loops.scanned import Inputs, backward, forward, hoisted_loop

# Numbers in a leaf over all steps of a window. XLA asks for its memory anew in each call: beyond this size the system hands
# that out page by page, which costs more than compiling the loop saves.
XLA_UP_TO = 1 << 20


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Tell whether this loop is faster than Keras' own, which is cuDNN's for LSTM and GRU on a GPU."""
    return kind not in ("lstm", "gru") or flags or recurrent_dropout > 0 or not tf.config.list_logical_devices("GPU")


def no_loop_because(kind: str) -> str | None:
    """Say why this backend has no fast loop for a kind of layer: it has one for each."""
    return None


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop."""
    return hoisted_loop(loop, _run)


def _run(kind: str, inputs: Inputs) -> tuple[Array, Leaves]:
    @tf.custom_gradient
    def run(*arrays: Array) -> Any:
        given = _packed(inputs, arrays)
        final, states, gates = _compiled(_save, kind, given)

        def gradients(*d_results: Array) -> Any:
            saved = (given, states, gates, d_results)
            found = tf.custom_gradient(lambda *_: (_compiled(_back, kind, *saved), _refuse))(*_arrays(saved))
            left = iter(found)
            return [next(left) if array.dtype.is_floating else None for array in arrays]

        return (states[0], *final), gradients

    # Weights may be variables, which a custom gradient takes for something to be found by itself.
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
    """Call a function, made once for each structure and shape of what it is given, and compiled by XLA if that pays."""
    specs = tree.map_structure(lambda part: None if part is None else tf.TensorSpec(part.shape, part.dtype), given)
    with tf.init_scope():  # what is kept must not belong to the graph that happens to be traced
        made = _made(function, kind, specs, pays(given[0]) and has_xla())
    # A tape that watched what goes in would look for a way back through the compiled loops themselves.
    return made(*map(tf.stop_gradient, _arrays(given)))


def _refuse(*gradients: Array) -> None:
    raise NotImplementedError(
        "The fast loops of TensorFlow can be differentiated once. Received: a gradient of their gradient. "
        'Use `StatefulModel(net, kernels="reference")`.'
    )


def pays(inputs: Inputs) -> bool:
    """Tell whether a loop is so small that XLA makes it faster, as far as its shape is known."""
    shape = (*inputs.projected.shape[:2], inputs.recurrent.shape[0])
    return None in shape or math.prod(shape) <= XLA_UP_TO


@lru_cache(maxsize=1024)
def _made(function: Any, kind: str, specs: Any, compiled: bool) -> Any:
    def flat(*arrays: Array) -> Any:
        return function(kind, *_packed(specs, arrays))

    return tf.function(flat, jit_compile=compiled, autograph=False).get_concrete_function(*_arrays(specs))


@cache
def has_xla() -> bool:
    """Tell whether this build of TensorFlow can compile by XLA; without it, the loops run as they are."""
    try:
        tf.function(lambda: tf.zeros(1) + 1.0, jit_compile=True)()
    except tf.errors.OpError:
        return False
    return True


def _scan(step: Any, carry: Any, given: Any, reverse: bool) -> Any:
    """Scan like `jax.lax.scan`, with an array of its own for each part of a step: XLA copies none of them."""
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
    for part in stacked:  # a mask or a reset reaches the next layer only if its time axis is known to be as long
        part.set_shape([parts[0].shape[0], *part.shape[1:]])
    return _packed(carry, flat), _packed(first, stacked)


def _arrays(nested: Any) -> list[Array]:
    """Return what is there in a nested structure, without what is `None`."""
    return [part for part in tree.flatten(nested) if part is not None]


def _packed(like: Any, arrays: Any) -> Any:
    """Return the arrays in the structure of `like`, with `None` where that has it."""
    left = iter(arrays)
    return tree.pack_sequence_as(like, [None if part is None else next(left) for part in tree.flatten(like)])
