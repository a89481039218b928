"""Random loops over steps, and comparisons of fast loops with their definition."""

import importlib
import itertools
from functools import cache, partial

import keras
import numpy as np
from keras import ops

from nets import difference, host
from rnnstate.kernels import kernels
from rnnstate.kernels.loops.definition import GATES, Loop
from rnnstate.kernels.loops.definition import recurrent_loop as define_loop

FEATURES = 2


def draw(shape, seed):
    """Return random values in -1 to 1 as float32."""
    return ops.convert_to_tensor(np.random.default_rng(seed).uniform(-1, 1, size=shape), dtype="float32")


def flags(batch, time, seed, share):
    """Return random booleans `(batch, time)`."""
    return ops.convert_to_tensor(np.random.default_rng(seed).random((batch, time)) < share)


def a_loop(kind, batch, time, units, *, mask=False, reset=False, dropout=0, recurrent_dropout=0, bias=True):
    """Return a loop with random weights; dropout counts how many factors are drawn."""
    width = GATES[kind] * units
    leaves = 2 if kind == "lstm" else 1
    shape = (2, width) if kind == "gru" else (width,)
    return Loop(
        kind,
        draw((batch, time, FEATURES), 1),
        draw((FEATURES, width), 2),
        draw((units, width), 3),
        draw(shape, 4) if bias else None,
        tuple(draw((batch, units), 5 + i) for i in range(leaves)),
        mask=flags(batch, time, 8, 0.6) if mask else None,
        reset=flags(batch, time, 9, 0.3) if reset else None,
        initial=tuple(draw((batch, units), 10 + i) for i in range(leaves)) if reset else None,
        dropout=tuple(draw((batch, FEATURES), 20 + i) for i in range(dropout)),
        recurrent_dropout=tuple(draw((batch, units), 30 + i) for i in range(recurrent_dropout)),
    )


def differentiable(loop):
    """Return the arrays of a loop that gradients flow into."""
    weights = [loop.x, loop.kernel, loop.recurrent, *([] if loop.bias is None else [loop.bias])]
    return [*weights, *loop.state, *(loop.initial or ())]


def rebuilt(loop, arrays):
    """Return the loop with other arrays in the places of `differentiable`."""
    arrays = iter(arrays)
    changed = {name: next(arrays) for name in ("x", "kernel", "recurrent")}
    changed["bias"] = None if loop.bias is None else next(arrays)
    changed["state"] = tuple(next(arrays) for _ in loop.state)
    changed["initial"] = None if loop.initial is None else tuple(next(arrays) for _ in loop.initial)
    return loop._replace(**changed)


def weighed(run, loop, arrays):
    """Return a sum that weighs each output and each final leaf of `run` differently, and all of these."""
    outputs, leaves = run(rebuilt(loop, arrays))
    parts = [outputs, *leaves]
    return sum(ops.sum(part * draw(part.shape, 40 + i)) for i, part in enumerate(parts)), parts


@cache
def compiled_by_jax(run, kind, repeats_h):
    """Return a compiled function of the arrays of a loop, so that loops of equal shapes share one compilation."""
    import jax  # noqa: TID251

    def gradients(loop, arrays):
        return jax.grad(partial(weighed, run, loop._replace(kind=kind, repeats_h=repeats_h)), has_aux=True)(arrays)

    return jax.jit(gradients)


def with_gradients(run, loop):
    """Return the outputs and leaves that `run` gives for a loop, and the gradients of their weighed sum.

    JAX compiles the fast loops, and computes the definition one operation at a time: compiling it takes longer.
    """
    name, arrays = keras.config.backend(), differentiable(loop)
    if name == "jax":
        import jax  # noqa: TID251

        if run is define_loop:
            gradients, parts = jax.grad(partial(weighed, run, loop), has_aux=True)(arrays)
        else:
            compiled = compiled_by_jax(run, loop.kind, loop.repeats_h)
            gradients, parts = compiled(loop._replace(kind=None, repeats_h=None), arrays)
        return [*parts, *gradients]
    if name == "torch":
        import torch  # noqa: TID251

        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        value, parts = weighed(run, loop, leaves)
        gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        return [*(part.detach() for part in parts), *gradients]
    import tensorflow as tf  # noqa: TID251

    with tf.GradientTape() as tape:
        tape.watch(arrays)
        value, parts = weighed(run, loop, arrays)
    return [*parts, *tape.gradient(value, arrays, unconnected_gradients=tf.UnconnectedGradients.ZERO)]


def agree(loop):
    """Check the fast loops against the definition, with their gradients. Fail unless all expected loops ran; return True."""
    runs = fast_loops(loop)
    assert len(runs) == expected_count(loop), f"{loop.kind}: {len(runs)} fast loops ran"
    slow, *fast = (with_gradients(run, loop) for run in (define_loop, *runs))
    for one, other in itertools.chain(*(zip(found, slow, strict=True) for found in fast)):
        assert difference(one, other) < 1e-5 * max(1e-2, float(np.abs(host(other)).max()))
    return bool(fast)


NATIVE = {"jax": "native.loops", "torch": "loops.native_torch", "tensorflow": "loops.native_tensorflow"}
PLAIN = {"jax": "loops.jax", "torch": "loops.torch", "tensorflow": "loops.tensorflow"}
WITHOUT = {"jax": "loop_of_xla", "torch": "loop_of_torch", "tensorflow": "loop_of_tensorflow"}


def of_backend(names):
    """Return the module of this backend."""
    return importlib.import_module(f"rnnstate.kernels.{names[keras.config.backend()]}")


def expected_count(loop):
    """Return how many fast loops a backend must have on the CPU: all have native ones for three kinds."""
    has_native = loop.kind in ("lstm", "gru", "rnn") and not loop.recurrent_dropout
    if keras.config.backend() != "jax" and len(loop.dropout) > 1:
        return 1
    return 2 if has_native and of_backend(NATIVE).has_library() else 1


def fast_loops(loop):
    """Return all fast loops that can run it here: the one without native code, then the native one."""
    flags = loop.mask is not None or loop.reset is not None
    if not kernels().has_loop(loop.kind, flags, len(loop.dropout), len(loop.recurrent_dropout)):
        return []
    native, name = of_backend(NATIVE), keras.config.backend()
    without = getattr(of_backend(PLAIN), WITHOUT[name])
    if not native.has_native_loop(loop):
        return [without]
    return [without, in_graph if name == "tensorflow" else native.native_loop]


def in_graph(loop):
    """Run the native loop of TensorFlow, which needs a graph."""
    import tensorflow as tf  # noqa: TID251

    def run(*arrays):
        return of_backend(NATIVE).native_loop(rebuilt(loop, arrays))

    return tf.function(run, autograph=False)(*differentiable(loop))
