"""JAX on the CPU: recurrent loops with a backward pass of their own.

Against Keras' loop (input projection inside `lax.scan`, automatic differentiation) these
1. project the input of all steps in one matrix product before the loop,
2. save the activated gates in the forward pass, so the backward pass computes no transcendental,
3. form the gradient of the recurrent kernel in one product after the backward loop, not in one per step,
4. keep time as the leading axis throughout, and multiply by kernels that are transposed once.

Reverse-mode gradients of any order work; forward mode (`jax.jvp`) does not, as with every `custom_vjp`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnstate.kernels.cells_jax import CELLS, Cell
from rnnstate.kernels.loops_reference import GATES, Array, Leaves, Loop, biases, product


class _Inputs(NamedTuple):
    """What a loop runs on, time leading; gradients flow into all but the flags and factors."""

    projected: Array
    recurrent: Array
    bias: Array | None
    state: Leaves
    initial: Leaves | None
    mask: Array | None
    reset: Array | None
    factors: Leaves


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Tell whether this loop is faster than Keras' own, which is cuDNN's for a plain LSTM on a GPU."""
    return kind != "lstm" or flags or recurrent_dropout > 0 or jax.default_backend() != "gpu"


def no_loop_because(kind: str) -> str | None:
    """Say why this backend has no fast loop for a kind of layer: it has one for each."""
    return None


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop."""
    bias, recurrent_bias = biases(loop)
    x = jnp.swapaxes(loop.x, 0, 1)
    inputs = _Inputs(
        product(loop.dropout, x, loop.kernel, GATES[loop.kind]) + bias,
        loop.recurrent,
        recurrent_bias if loop.kind == "gru" and loop.bias is not None else None,
        loop.state,
        None if loop.reset is None else loop.initial or loop.state,
        _by_time(loop.mask),
        _by_time(loop.reset),
        loop.recurrent_dropout,
    )
    outputs, final = _run(loop.kind, inputs)
    if loop.mask is not None and loop.reset is not None:
        outputs = _held(outputs, inputs.mask)
    return jnp.swapaxes(outputs, 0, 1), final


def _by_time(flags: Array | None) -> Array | None:
    return None if flags is None else jnp.swapaxes(flags, 0, 1)[:, :, None]


def _held(outputs: Array, mask: Any) -> Array:
    """Repeat the output of the last valid step where a reset would show through at a masked one."""
    steps = jnp.arange(outputs.shape[0])[:, None, None]
    last = lax.cummax(jnp.where(mask, steps, -1), axis=0)
    held = jnp.take_along_axis(outputs, jnp.broadcast_to(jnp.maximum(last, 0), outputs.shape), axis=0)
    return jnp.where(last >= 0, held, 0)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(kind: str, inputs: _Inputs) -> tuple[Array, Leaves]:
    final, (states, _) = _forward(CELLS[kind], inputs, save=False)
    return states[0], final


def _forward(cell: Cell, inputs: _Inputs, save: bool) -> Any:
    """Scan the cell over time; return the final leaves, and of each step the leaves and the activated gates."""
    recur = partial(_recur, inputs)

    def step(state: Leaves, given: Any) -> Any:
        projected, mask, reset = given
        before = state if reset is None else _select(reset, inputs.initial, state)
        after, gates = cell.forward(projected, before, recur)
        after = after if mask is None else _select(mask, after, before)
        return after, (after if save else after[:1], gates if save else ())

    return lax.scan(step, inputs.state, (inputs.projected, inputs.mask, inputs.reset))


def _save(kind: str, inputs: _Inputs) -> Any:
    final, (states, gates) = _forward(CELLS[kind], inputs, save=True)
    return (states[0], final), (inputs._replace(projected=None), states, gates)


def _backward(kind: str, saved: Any, gradients: Any) -> Any:
    inputs, states, gates = saved
    d_outputs, d_final = gradients
    cell, back = CELLS[kind], _transposed(inputs)
    before = tuple(
        jnp.concatenate([start[None], later[:-1]]) for start, later in zip(inputs.state, states, strict=True)
    )
    before = before if inputs.reset is None else _select(inputs.reset, inputs.initial, before)

    def step(carry: Any, given: Any) -> Any:
        d_state, d_initial = carry
        d_output, old, new, gate, mask, reset = given
        d_state = (d_state[0] + d_output, *d_state[1:])
        d_new = d_state if mask is None else _select(mask, d_state, None)
        d_x, d_h, d_old = cell.backward(d_new, old, new, gate, back)
        d_old = d_old if mask is None else _add(d_old, _select(mask, None, d_state))
        if reset is not None:
            d_initial = _add(d_initial, _select(reset, d_old, None))
            d_old = _select(reset, None, d_old)
        return (d_old, d_initial), (d_x, d_h)

    nothing = None if inputs.initial is None else _zeros(inputs.initial)
    given = (d_outputs, before, states, gates, inputs.mask, inputs.reset)
    (d_state, d_initial), (d_x, d_h) = lax.scan(step, (d_final, nothing), given, reverse=True)
    d_h = d_x if d_h is None else d_h
    d_recurrent = _kernel_gradient(cell.multiplied(before[0], gates), d_h, inputs.factors)
    d_bias = None if inputs.bias is None else jnp.sum(d_h, axis=(0, 1))
    return (_Inputs(d_x, d_recurrent, d_bias, d_state, d_initial, None, None, _zeros(inputs.factors)),)


_run.defvjp(_save, _backward)


def _recur(inputs: _Inputs, h: Array, gates: slice = slice(None)) -> Array:
    """Return h through the recurrent kernel, for some gates."""
    units = h.shape[-1]
    columns = slice(*(None if end is None else end * units for end in (gates.start, gates.stop)))
    factors = inputs.factors if len(inputs.factors) < 2 else inputs.factors[gates]
    kernel = inputs.recurrent[:, columns]
    z = product(factors, h, kernel, len(factors))
    return z if inputs.bias is None else z + inputs.bias[columns]


def _transposed(inputs: _Inputs) -> Any:
    """Return the way back through the recurrent kernel, for some gates, with the kernel transposed once."""
    transposed = inputs.recurrent.T
    units = inputs.recurrent.shape[0]

    def back(d_z: Array, gates: slice = slice(None)) -> Array:
        rows = slice(*(None if end is None else end * units for end in (gates.start, gates.stop)))
        kernel = transposed[rows]
        if len(inputs.factors) < 2:
            d_h = d_z @ kernel
            return d_h * inputs.factors[0] if inputs.factors else d_h
        factors = inputs.factors[gates]
        parts = zip(jnp.split(d_z, len(factors), axis=-1), jnp.split(kernel, len(factors)), factors, strict=True)
        return sum(d_gate @ part * factor for d_gate, part, factor in parts)

    return back


def _kernel_gradient(multiplied: Leaves, d_h: Array, factors: Leaves) -> Array:
    """Return the gradient of the recurrent kernel from all steps at once.

    Args:
        multiplied: What the kernel was multiplied by, `(time, batch, units)`: once for all gates, or for each.
        d_h: Gradient of the products, `(time, batch, gates * units)`.
        factors: Dropout of h, once for all gates, or for each.
    """
    count = max(len(multiplied), len(factors))
    lefts = [
        (multiplied[i % len(multiplied)] * factors[i % len(factors)]) if factors else multiplied[i]
        for i in range(count)
    ]
    rights = jnp.split(d_h, count, axis=-1)
    parts = [jnp.einsum("tbu,tbz->uz", left, right) for left, right in zip(lefts, rights, strict=True)]
    return jnp.concatenate(parts, axis=-1)


def _select(flags: Array, ones: Leaves | None, others: Leaves | None) -> Leaves:
    """Choose rows of leaves; `None` for leaves of zeros."""
    ones, others = ones or (0,) * len(others or ()), others or (0,) * len(ones or ())
    return tuple(jnp.where(flags, one, other) for one, other in zip(ones, others, strict=True))


def _add(ones: Leaves, others: Leaves) -> Leaves:
    return tuple(one + other for one, other in zip(ones, others, strict=True))


def _zeros(leaves: Leaves) -> Leaves:
    return tuple(jnp.zeros_like(leaf) for leaf in leaves)
