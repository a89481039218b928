"""PyTorch on the CPU: the forward and the backward pass of a native loop, as plain functions without autograd.

forward    projects the input, runs the loop, keeps the gates
backward   runs the loop back, then sums the gradients of the kernels

gates  (batch, time, gates * units)   the activated gates; the backward pass writes the gradients of the projected input
kept   (batch, time, units)           c of an LSTM, or the recurrent product of a GRU
"""

from typing import Any, NamedTuple

import torch

from rnnstate.kernels.loops.blocks_torch import (
    BACK,
    FORWARD,
    run_gradient_of_x,
    run_rows,
    run_sums,
    scratch_for_strips,
    turned,
)
from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.library import ROWS_FOR_STRIPS, lie_in_strips

CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
_KEEPS = ("lstm", "gru")


class Call(NamedTuple):
    """The inputs of a native loop, in their exact shapes.

    Args:
        kind: The cell.
        x: Input `(batch, time, features)`.
        kernel: `(features, gates * units)`.
        recurrent: `(units, gates * units)`.
        bias: `(gates * units,)`, or `(2, gates * units)` for a GRU, or `None`.
        ends: The leaves before the window, and then, with resets, the leaves after a reset: `(batch, units)` each.
        mask: Boolean `(batch, time)`, contiguous, or `None`.
        reset: Boolean `(batch, time)`, contiguous, or `None`.
    """

    kind: str
    x: Array
    kernel: Array
    recurrent: Array
    bias: Array | None
    ends: Any
    mask: Array | None
    reset: Array | None


class Made(NamedTuple):
    """The results of a forward pass: h after each step, and the parts that the backward pass needs."""

    outputs: Array
    gates: Array
    kept: Array


def forward_pass(call: Call) -> tuple[Made, Array]:
    """Run a loop. Return its results and the final leaves, `(leaves, batch, units)`."""
    kind, x, recurrent, bias = call.kind, call.x, call.recurrent, call.bias
    (batch, time, features), units, leaves = x.shape, len(recurrent), 2 if kind == "lstm" else 1
    recurrent_bias = None if kind != "gru" or bias is None else bias[1].contiguous()
    gates, projection = _projection(kind, x, call.kernel, bias)
    outputs, kept = x.new_empty((batch, time, units)), x.new_empty((batch, time, units * (kind in _KEEPS)))
    final, spare = x.new_empty((leaves, batch, units)), x.new_empty((batch, 1, gates.shape[2] + features))
    start, initial = _stacked(call.ends, leaves)
    rows = recurrent.contiguous()
    arrays = [start, initial, call.mask, call.reset, rows, recurrent_bias, *projection, gates, outputs, kept, final]
    in_strips = lie_in_strips(batch, time)
    strips = scratch_for_strips(units + features, gates.shape[2], x) if in_strips else None
    run_rows(CELLS[kind], FORWARD, arrays, time, spare, strips)
    return Made(outputs, gates, kept), final


def backward_pass(call: Call, made: Made, d_outputs: Array, d_final: Any, needs_x: bool) -> list[Array | None]:
    """Run a loop back. It overwrites the gates and `kept`.

    Returns:
        The gradients of the input, of both kernels and of the bias, and of each of the ends. The gradient of the input is
        `None` if nothing needs it.
    """
    d_start, d_initial = _run_back(call, made, d_outputs, d_final)
    sums = _sums(call, made)
    d_x = run_gradient_of_x(made.gates, call.kernel) if needs_x else None
    return [d_x, *sums, *d_start, *d_initial]


def _projection(kind: str, x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Any]:
    """Return the array for the projected input, and the arrays with which native code fills it. PyTorch fills few rows."""
    width = kernel.shape[1]
    if bias is None:
        bias = x.new_zeros(width)
    elif kind == "gru":
        bias = bias[0]
    if len(x) < ROWS_FOR_STRIPS:
        return torch.addmm(bias, x.reshape(-1, x.shape[2]), kernel).view(*x.shape[:2], width), (None, None, None)
    return x.new_empty((*x.shape[:2], width)), (x.contiguous(), kernel.contiguous(), bias.contiguous())


def _stacked(ends: Any, leaves: int) -> tuple[Array, Array | None]:
    """Return the leaves before the window and the leaves after a reset, as one array each."""
    return torch.stack(ends[:leaves]), torch.stack(ends[leaves:]) if len(ends) > leaves else None


def _run_back(call: Call, made: Made, d_outputs: Array, d_final: Any) -> tuple[Array, Any]:
    """Run the loop back. The gradients of the projected input and of a GRU's product overwrite the gates and `kept`."""
    outputs, gates, kept = made
    start, initial = _stacked(call.ends, len(d_final))
    d_start, d_initial = torch.empty_like(start), torch.empty_like(start)
    spare, (recurrent, strips) = (
        gates.new_empty((len(gates), 1, gates.shape[2])),
        turned(call.recurrent, *gates.shape[:2]),
    )
    arrays = [start, initial, call.mask, call.reset, recurrent, d_outputs.contiguous(), torch.stack(d_final), outputs]
    arrays += [None, gates, kept, d_start, d_initial]
    run_rows(CELLS[call.kind], BACK, arrays, gates.shape[1], spare, strips)
    return d_start, () if initial is None else d_initial


def _sums(call: Call, made: Made) -> tuple[Array, Array, Array | None]:
    """Return the gradients of the kernel, the recurrent kernel and the bias, after the way back."""
    x, (outputs, d_x, d_kept) = call.x, made
    is_gru, (features, units), width = call.kind == "gru", (x.shape[2], outputs.shape[2]), d_x.shape[2]
    start, initial = _stacked(call.ends, 2 if call.kind == "lstm" else 1)
    sums_x, sums_h = x.new_empty((features + 1, width)), x.new_empty((units + is_gru, width))
    arrays = [start, initial, None, call.reset, None, d_x, x.contiguous(), outputs, d_kept if is_gru else None]
    run_sums([*arrays, sums_x, sums_h, None, None])
    d_bias = torch.stack([sums_x[features], sums_h[units]]) if is_gru else sums_x[features]
    return sums_x[:features], sums_h[:units], None if call.bias is None else d_bias
