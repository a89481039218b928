"""JAX: the native loops on the CPU, and the hoisted loops elsewhere. Keras runs a plain LSTM on a GPU, with cuDNN.

Reverse-mode gradients of any order work. Forward mode (`jax.jvp`) does not work, as with every `custom_vjp`.
"""

from functools import partial
from typing import Any

import jax

from rnnstate.kernels.loops.definition import Array, Leaves, Loop
from rnnstate.kernels.loops.products_jax import project
from rnnstate.kernels.loops.scanned import Inputs, backward, forward, hoisted_loop
from rnnstate.kernels.native.loops import has_native_loop, native_loop, scan


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Return whether this loop is faster than Keras' loop, which is cuDNN's for a plain LSTM on a GPU."""
    return kind != "lstm" or flags or recurrent_dropout > 0 or jax.default_backend() != "gpu"


def no_loop_because(kind: str) -> str | None:
    """Return `None`: this backend has a fast loop for each kind of layer."""
    return None


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop."""
    return native_loop(loop) if has_native_loop(loop) else loop_of_xla(loop)


def loop_of_xla(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop that XLA compiles."""
    return hoisted_loop(loop, _run, project)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(kind: str, inputs: Inputs) -> tuple[Array, Leaves]:
    final, (states, _) = forward(kind, inputs, scan, save=False)
    return states[0], final


def _save(kind: str, inputs: Inputs) -> Any:
    final, (states, gates) = forward(kind, inputs, scan, save=True)
    return (states[0], final), (inputs._replace(projected=None), states, gates)


def _back(kind: str, saved: Any, gradients: Any) -> tuple[Inputs]:
    return (backward(kind, saved, gradients, scan),)


_run.defvjp(_save, _back)
