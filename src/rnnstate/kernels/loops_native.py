"""JAX on the CPU: the native loops in the place of XLA's, where Numba is installed.

XLA runs a loop as some dozen small operations a step, about 2 us each, and their products on one core. Compiled for
the processor as one function, a step of 8 units takes half a microsecond, and the cores share the rows of a batch.
"""

import importlib.util
import os
import sys
from functools import cache, partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import keras

from rnnstate.kernels.hoisted import Inputs, backward, leaves_before, weight_gradients
from rnnstate.kernels.loops_reference import Array, Leaves, Loop

_NATIVE = {"lstm": 0, "gru": 1, "rnn": 2}
_SAVED = {"lstm": 5, "gru": 4, "rnn": 0}


def has_native_loop(loop: Loop) -> bool:
    """Tell whether a loop can run as native code."""
    return (
        has_compiler()
        and loop.kind in _NATIVE
        and not loop.recurrent_dropout
        and loop.x.dtype == jnp.float32
        and jax.default_backend() == "cpu"
        and keras.distribution.distribution() is None
    )


@cache
def has_compiler() -> bool:
    """Tell whether Numba is installed, on a system with POSIX threads."""
    return sys.platform in ("linux", "darwin") and importlib.util.find_spec("numba") is not None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def run_native(kind: str, inputs: Inputs) -> tuple[Array, Leaves]:
    """Run a loop; see `hoisted_loop`."""
    outputs, _, _, final = _forward(kind, inputs, save=False)
    return outputs, final


def _save(kind: str, inputs: Inputs) -> Any:
    outputs, cells, gates, final = _forward(kind, inputs, save=True)
    states = (outputs, cells) if kind == "lstm" else (outputs,)
    return (outputs, final), (inputs._replace(projected=None), states, gates)


def _back(kind: str, saved: Any, gradients: Any) -> tuple[Inputs]:
    return (_gradients(kind, saved, gradients),)


run_native.defvjp(_save, _back)


def _forward(kind: str, inputs: Inputs, save: bool) -> tuple[Array, Array, Array, Leaves]:
    time, batch, _ = inputs.projected.shape
    units, leaves, kept = inputs.recurrent.shape[0], len(inputs.state), time if save else 1
    shapes = [
        (time, batch, units),
        (time if save and kind == "lstm" else 0, batch, units),
        (kept, batch, _SAVED[kind] * units),
        (leaves, batch, units),
    ]
    bias = _none(1) if inputs.bias is None else inputs.bias
    given = (*_common(inputs), inputs.recurrent, inputs.projected, bias)
    outputs, cells, gates, final = _call(kind, False, shapes, given)
    return outputs, cells, gates, tuple(final)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(kind: str, saved: Any, gradients: Any) -> Inputs:
    inputs, states, gates = saved
    d_outputs, d_final = gradients
    time, batch, units = d_outputs.shape
    width, leaves = inputs.recurrent.shape[1], len(inputs.state)
    shapes = [
        (time, batch, width),
        (time if kind == "gru" else 0, batch, width),
        (leaves, batch, units),
        (leaves, batch, units),
    ]
    cells = states[1] if kind == "lstm" else _none(3)
    given = (*_common(inputs), inputs.recurrent.T, d_outputs, jnp.stack(d_final), states[0], cells, gates)
    d_x, d_h, d_state, d_initial = _call(kind, True, shapes, given)
    multiplied = leaves_before(inputs, states)[:1]
    d_weights = weight_gradients(inputs, multiplied, d_h if kind == "gru" else d_x)
    d_initial = None if inputs.initial is None else tuple(d_initial)
    return Inputs(d_x, *d_weights, tuple(d_state), d_initial, None, None, ())


def _gradients_again(kind: str, saved: Any, gradients: Any) -> Any:
    return _gradients(kind, saved, gradients), (saved, gradients)


def _back_again(kind: str, given: Any, higher: Any) -> Any:
    """Differentiate the way back: that of the hoisted loop, which XLA can differentiate."""

    def hoisted(saved: Any, gradients: Any) -> Inputs:
        inputs, states, gates = saved
        parts = tuple(jnp.split(gates, _SAVED[kind], axis=-1)) if _SAVED[kind] else ()
        return backward(kind, (inputs, states, parts), gradients, _scan)

    return jax.vjp(hoisted, *given)[1](higher)


def _scan(step: Any, carry: Any, given: Any, reverse: bool) -> Any:
    return jax.lax.scan(step, carry, given, reverse=reverse)


_gradients.defvjp(_gradients_again, _back_again)


def _common(inputs: Inputs) -> tuple[Array, ...]:
    """Return what both ways get: the leaves to start from, those of resets, and the flags."""
    start = jnp.stack(inputs.state)
    initial = _none(3) if inputs.initial is None else jnp.stack(inputs.initial)
    flags = (_none(3, bool) if flag is None else flag for flag in (inputs.mask, inputs.reset))
    return (start, initial, *flags)


def _none(axes: int, dtype: Any = jnp.float32) -> Array:
    return jnp.zeros((0,) * axes, dtype)


def _call(kind: str, back: bool, shapes: list[tuple[int, ...]], given: tuple[Array, ...]) -> Any:
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return _native_code().call_rows(results, _NATIVE[kind], back, _cores(), *given)


@cache
def _native_code() -> ModuleType:
    return importlib.import_module("rnnstate.kernels.native_calls")


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
