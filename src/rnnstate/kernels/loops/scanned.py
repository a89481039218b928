"""The hoisted loops: recurrent loops with an explicit backward pass, for any backend that can scan.

A loop that the backend differentiates automatically repeats work in each step. The hoisted loops take the work out of the
loop. They
1. project the input of all steps in one matrix product before the loop,
2. save the activated gates in the forward pass, so that the backward pass computes no `exp` or `tanh`,
3. compute the gradient of the recurrent kernel in one product after the backward loop,
4. keep time as the first axis, `(time, batch, units)`, and transpose each kernel once.

    forward   x ──► projected ──► scan: state[t] = cell(projected[t], state[t - 1])   saves states and gates
    backward  d_outputs ──► scan in reverse: d_x[t], d_state[t - 1]                   reads states and gates
              d_recurrent = sum over t of state[t - 1].T @ d_x[t]                      one product

`scan(step, carry, given, reverse)` has the meaning of `jax.lax.scan`. Parts of `given` may be `None`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from rnnstate.kernels.loops.cells import CELLS
from rnnstate.kernels.loops.definition import GATES, Array, Leaves, Loop, begins_with_h, biases, product

Scan = Callable[..., Any]


class Inputs(NamedTuple):
    """The arrays of a loop, with time as the first axis. Gradients flow into all of them except the flags and factors.

    Args:
        projected: Input times kernel plus bias, `(time, batch, gates * units)`.
        recurrent: Recurrent kernel, `(units, gates * units)`.
        bias: Bias of the recurrent product of a GRU, `(gates * units,)`, or `None`.
        state: Leaves before the window, `(batch, units)` each.
        initial: Leaves after a reset, `(batch, units)` each, or `None`.
        mask: Boolean `(time, batch, 1)` of the valid steps, or `None`.
        reset: Boolean `(time, batch, 1)` of the steps before which a row is reset, or `None`.
        factors: Dropout factors of h, `(batch, units)` each.
    """

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
        loop: The loop to run.
        run: `(kind, inputs) -> (outputs, final)` with its backward pass. Time is the first axis.
        multiply: The matrix product of the input of all steps and the kernel.

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
    """Return outputs that repeat the last valid step at masked steps, with zeros before the first valid step.

    A reset at a masked step changes h, and h must not appear in the output.

    Args:
        loop: The loop that gave the outputs.
        outputs: h after each step, `(batch, time, units)`.
    """
    mask = loop.mask
    if mask is None or begins_with_h(loop):
        return outputs
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    if loop.reset is not None:
        # A sort moves the valid steps to the front, so the n-th valid step is at place n - 1.
        steps = ops.arange(mask.shape[1])
        places = ops.argsort(ops.where(mask, steps, steps + mask.shape[1]), axis=1)
        last = ops.take_along_axis(places, ops.maximum(count - 1, 0), axis=1)
        outputs = ops.take_along_axis(outputs, ops.broadcast_to(last[:, :, None], ops.shape(outputs)), axis=1)
    return ops.where(count[:, :, None] > 0, outputs, ops.zeros_like(outputs))


def forward(kind: str, inputs: Inputs, scan: Scan, save: bool) -> Any:
    """Scan the cell over time. Return the final leaves, then the leaves and the activated gates of each step."""
    recur = _product(inputs, CELLS[kind].parts)

    def step(state: Leaves, given: Any) -> Any:
        projected, mask, reset = given
        before = state if reset is None else _select(reset, inputs.initial, state)
        after, gates = CELLS[kind].forward(projected, before, recur)
        after = after if mask is None else _select(mask, after, before)
        return after, (after if save else after[:1], gates if save else ())

    return scan(step, inputs.state, (inputs.projected, inputs.mask, inputs.reset), False)


def backward(kind: str, saved: Any, gradients: Any, scan: Scan) -> Inputs:
    """Scan backward over time. Return the gradients of the inputs.

    Args:
        kind: Kind of the loop.
        saved: The inputs, and the leaves and the gates of each step.
        gradients: The gradients of the outputs and of the final leaves.
        scan: The scan of the backend.
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
    """Return a function that multiplies h by the recurrent kernel of some gates. The kernel is cut once, before the loop."""
    kernels = _cut(inputs.recurrent, parts, inputs.recurrent.shape[0], axis=1)
    biases = None if inputs.bias is None else _cut(inputs.bias, parts, inputs.recurrent.shape[0], axis=0)

    def recur(h: Array, gates: slice = slice(None)) -> Array:
        factors = inputs.factors if len(inputs.factors) < 2 else inputs.factors[gates]
        z = product(factors, h, kernels[gates.start], len(factors))
        return z if biases is None else z + biases[gates.start]

    return recur


def _transposed(inputs: Inputs, parts: tuple[slice, ...]) -> Any:
    """Return the backward pass of `_product`. The kernel is transposed and cut once, before the loop."""
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
    """Return the parts of a kernel or a bias, by the first gate of each part."""
    if parts == (slice(None),):
        return {None: array}
    spans = {part.start: slice(part.start * units, part.stop * units) for part in parts}
    return {start: array[:, span] if axis else array[span] for start, span in spans.items()}


def _kernel_gradient(multiplied: Leaves, d_h: Array, factors: Leaves) -> Array:
    """Return the gradient of the recurrent kernel over all steps.

    Args:
        multiplied: The first factors of the recurrent products, `(time, batch, units)`: one for all gates, or one for each.
        d_h: Gradient of the products, `(time, batch, gates * units)`.
        factors: Dropout factors of h: one for all gates, or one for each.
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
    """Return the rows of all steps as one matrix. XLA would transpose the arrays before a sum over two axes."""
    return ops.reshape(array, (-1, array.shape[-1]))


def _select(flags: Array, ones: Leaves | None, others: Leaves | None) -> Leaves:
    """Choose rows of leaves. `None` stands for leaves of zeros."""
    ones, others = ones or zeros(others or ()), others or zeros(ones or ())
    return tuple(ops.where(flags, one, other) for one, other in zip(ones, others, strict=True))


def _add(ones: Leaves, others: Leaves) -> Leaves:
    return tuple(one + other for one, other in zip(ones, others, strict=True))


def zeros(leaves: Leaves) -> Leaves:
    """Return zeros in the shape of leaves."""
    return tuple(ops.zeros_like(leaf) for leaf in leaves)
