"""Recurrent loops with a backward pass of their own, for any backend that can scan.

Against a loop that is differentiated automatically these
1. project the input of all steps in one matrix product before the loop,
2. save the activated gates in the forward pass, so the backward pass computes no transcendental,
3. form the gradient of the recurrent kernel in one product after the backward loop, not in one per step,
4. keep time as the leading axis throughout, and multiply by kernels that are transposed once.

`scan(step, carry, given, reverse)` is that of `jax.lax`: parts of `given` may be `None`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from rnnstate.kernels.loops.cells import CELLS
from rnnstate.kernels.loops.definition import GATES, Array, Leaves, Loop, begins_with_h, biases, product

Scan = Callable[..., Any]


class Inputs(NamedTuple):
    """What a loop runs on, time leading; gradients flow into all but the flags and factors."""

    projected: Array
    recurrent: Array
    bias: Array | None
    state: Leaves
    initial: Leaves | None
    mask: Array | None
    reset: Array | None
    factors: Leaves


Run = Callable[[str, Inputs], tuple[Array, Leaves]]


def hoisted_loop(loop: Loop, run: Run, multiply: Callable[[Array, Array], Array] = ops.matmul) -> tuple[Array, Leaves]:
    """Run a loop.

    Args:
        loop: What to run.
        run: `(kind, inputs) -> (outputs, final)`, time leading, with its backward pass.
        multiply: How the input of all steps is multiplied by the kernel.

    Returns:
        The outputs `(batch, time, units)`, and the leaves after the last valid step.
    """
    bias, recurrent_bias = biases(loop)
    x = ops.swapaxes(loop.x, 0, 1)
    inputs = Inputs(
        product(loop.dropout, x, loop.kernel, GATES[loop.kind], multiply) + bias,
        loop.recurrent,
        recurrent_bias if loop.kind == "gru" and loop.bias is not None else None,
        loop.state,
        None if loop.reset is None else loop.initial or loop.state,
        _by_time(loop.mask),
        _by_time(loop.reset),
        loop.recurrent_dropout,
    )
    outputs, final = run(loop.kind, inputs)
    return held(loop, ops.swapaxes(outputs, 0, 1)), final


def _by_time(flags: Array | None) -> Array | None:
    return None if flags is None else ops.swapaxes(flags, 0, 1)[:, :, None]


def held(loop: Loop, outputs: Array) -> Array:
    """Repeat the output of the last valid step where a reset would show through, and zeros before the first one.

    Args:
        loop: What was run.
        outputs: h after each step, `(batch, time, units)`.
    """
    mask = loop.mask
    if mask is None or begins_with_h(loop):
        return outputs
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    if loop.reset is not None:
        # the n-th valid step comes n-th where valid steps are sorted to the front
        steps = ops.arange(mask.shape[1])
        places = ops.argsort(ops.where(mask, steps, steps + mask.shape[1]), axis=1)
        last = ops.take_along_axis(places, ops.maximum(count - 1, 0), axis=1)
        outputs = ops.take_along_axis(outputs, ops.broadcast_to(last[:, :, None], ops.shape(outputs)), axis=1)
    return ops.where(count[:, :, None] > 0, outputs, ops.zeros_like(outputs))


def forward(kind: str, inputs: Inputs, scan: Scan, save: bool) -> Any:
    """Scan the cell over time; return the final leaves, and of each step the leaves and the activated gates."""
    recur = _product(inputs, CELLS[kind].parts)

    def step(state: Leaves, given: Any) -> Any:
        projected, mask, reset = given
        before = state if reset is None else _select(reset, inputs.initial, state)
        after, gates = CELLS[kind].forward(projected, before, recur)
        after = after if mask is None else _select(mask, after, before)
        return after, (after if save else after[:1], gates if save else ())

    return scan(step, inputs.state, (inputs.projected, inputs.mask, inputs.reset), False)


def backward(kind: str, saved: Any, gradients: Any, scan: Scan) -> Inputs:
    """Scan back over time; return the gradients of the inputs.

    Args:
        kind: Kind of the loop.
        saved: The inputs, and of each step the leaves and the gates.
        gradients: Of the outputs, and of the final leaves.
        scan: How the backend scans.
    """
    inputs, states, gates = saved
    d_outputs, d_final = gradients
    cell = CELLS[kind]
    back = _transposed(inputs, cell.parts)
    before = tuple(
        ops.concatenate([start[None], later[:-1]]) for start, later in zip(inputs.state, states, strict=True)
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

    nothing = None if inputs.initial is None else zeros(inputs.initial)
    given = (d_outputs, before, states, gates, inputs.mask, inputs.reset)
    (d_state, d_initial), (d_x, d_h) = scan(step, (d_final, nothing), given, True)
    d_h = d_x if d_h is None else d_h
    d_recurrent = _kernel_gradient(cell.multiplied(before[0], gates), d_h, inputs.factors)
    d_bias = None if inputs.bias is None else ops.sum(d_h, axis=(0, 1))
    return Inputs(d_x, d_recurrent, d_bias, d_state, d_initial, None, None, zeros(inputs.factors))


def _product(inputs: Inputs, parts: tuple[slice, ...]) -> Any:
    """Return h through the recurrent kernel, for some gates; cut here, once, and not in every step."""
    kernels = _cut(inputs.recurrent, parts, inputs.recurrent.shape[0], axis=1)
    biases = None if inputs.bias is None else _cut(inputs.bias, parts, inputs.recurrent.shape[0], axis=0)

    def recur(h: Array, gates: slice = slice(None)) -> Array:
        factors = inputs.factors if len(inputs.factors) < 2 else inputs.factors[gates]
        z = product(factors, h, kernels[gates.start], len(factors))
        return z if biases is None else z + biases[gates.start]

    return recur


def _transposed(inputs: Inputs, parts: tuple[slice, ...]) -> Any:
    """Return the way back through the recurrent kernel, for some gates, with the kernel transposed once."""
    kernels = _cut(ops.transpose(inputs.recurrent), parts, inputs.recurrent.shape[0], axis=0)

    def back(d_z: Array, gates: slice = slice(None)) -> Array:
        kernel = kernels[gates.start]
        if len(inputs.factors) < 2:
            d_h = ops.matmul(d_z, kernel)
            return d_h * inputs.factors[0] if inputs.factors else d_h
        factors = inputs.factors[gates]
        parts = zip(ops.split(d_z, len(factors), axis=-1), ops.split(kernel, len(factors)), factors, strict=True)
        return sum(ops.matmul(d_gate, part) * factor for d_gate, part, factor in parts)

    return back


def _cut(array: Array, parts: tuple[slice, ...], units: int, axis: int) -> dict[int | None, Array]:
    """Return the parts of a kernel or bias that belong to some gates, by the first of them."""
    if parts == (slice(None),):
        return {None: array}
    spans = {part.start: slice(part.start * units, part.stop * units) for part in parts}
    return {start: array[:, span] if axis else array[span] for start, span in spans.items()}


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
    rights = ops.split(d_h, count, axis=-1)
    parts = [ops.einsum("nu,nz->uz", _flat(left), _flat(right)) for left, right in zip(lefts, rights, strict=True)]
    return ops.concatenate(parts, axis=-1)


def _flat(array: Array) -> Array:
    """Return a matrix of the rows of all steps: summing over two axes, XLA would transpose them first."""
    return ops.reshape(array, (-1, array.shape[-1]))


def _select(flags: Array, ones: Leaves | None, others: Leaves | None) -> Leaves:
    """Choose rows of leaves; `None` for leaves of zeros."""
    ones, others = ones or zeros(others or ()), others or zeros(ones or ())
    return tuple(ops.where(flags, one, other) for one, other in zip(ones, others, strict=True))


def _add(ones: Leaves, others: Leaves) -> Leaves:
    return tuple(one + other for one, other in zip(ones, others, strict=True))


def zeros(leaves: Leaves) -> Leaves:
    """Return zeros in the shape of leaves."""
    return tuple(ops.zeros_like(leaf) for leaf in leaves)
