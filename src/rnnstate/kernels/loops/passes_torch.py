"""PyTorch on the CPU: the forward and the backward pass of a native loop, as plain functions without autograd.

forward    projects the input, runs the loop, keeps the gates
backward   runs the loop back, then one product for each kernel

gates  (batch, time, gates * units)   the activated gates; the backward pass writes the gradients of the projected input
kept   (batch, time, units)           c of an LSTM, or the recurrent product of a GRU
"""

from typing import Any, NamedTuple

import torch

from rnnstate.kernels.loops.blocks_torch import run_rows
from rnnstate.kernels.loops.definition import Array

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
    (batch, time, _), units, leaves = x.shape, len(recurrent), 2 if kind == "lstm" else 1
    recurrent_bias = None if kind != "gru" or bias is None else bias[1].contiguous()
    gates = _projected(kind, x, call.kernel, bias)
    outputs, kept = x.new_empty((batch, time, units)), x.new_empty((batch, time, units * (kind in _KEEPS)))
    final, spare = x.new_empty((leaves, batch, units)), x.new_empty((batch, 1, gates.shape[2]))
    start, initial = _stacked(call.ends, leaves)
    rows = recurrent.contiguous()
    arrays = [start, initial, call.mask, call.reset, rows, recurrent_bias, None, None, gates, outputs, kept, final]
    run_rows(CELLS[kind], False, arrays, time, spare, rows)
    return Made(outputs, gates, kept), final


def backward_pass(call: Call, made: Made, d_outputs: Array, d_final: Any, needs_x: bool) -> list[Array | None]:
    """Run a loop back. It overwrites the gates and `kept`.

    Returns:
        The gradients of the input, of both kernels and of the bias, and of each of the ends. The gradient of the input is
        `None` if nothing needs it.
    """
    kind, x = call.kind, call.x
    outputs, gates, kept = made
    d_start, d_initial = _run_back(call, made, d_outputs, d_final)
    d_h = torch.cat([gates[..., : 2 * kept.shape[2]], kept], dim=2) if kind == "gru" else gates
    flat, width = gates.flatten(0, 1), gates.shape[2]
    d_recurrent = _before(call, outputs).flatten(0, 1).T @ d_h.reshape(-1, width)
    d_x = (flat @ call.kernel.T).view(x.shape) if needs_x else None
    d_kernel, d_bias = x.reshape(-1, x.shape[2]).T @ flat, None
    if call.bias is not None:
        d_bias = flat.sum(0)
        d_bias = torch.stack([d_bias, d_h.sum((0, 1))]) if kind == "gru" else d_bias
    return [d_x, d_kernel, d_recurrent, d_bias, *d_start, *d_initial]


def _projected(kind: str, x: Array, kernel: Array, bias: Array | None) -> Array:
    flat = x.reshape(-1, x.shape[2])
    if bias is None:
        return (flat @ kernel).view(*x.shape[:2], -1)
    return torch.addmm(bias[0] if kind == "gru" else bias, flat, kernel).view(*x.shape[:2], -1)


def _stacked(ends: Any, leaves: int) -> tuple[Array, Array | None]:
    """Return the leaves before the window and the leaves after a reset, as one array each."""
    return torch.stack(ends[:leaves]), torch.stack(ends[leaves:]) if len(ends) > leaves else None


def _run_back(call: Call, made: Made, d_outputs: Array, d_final: Any) -> tuple[Array, Any]:
    """Run the loop back. The gradients of the projected input and of a GRU's product overwrite the gates and `kept`."""
    outputs, gates, kept = made
    start, initial = _stacked(call.ends, len(d_final))
    d_start, d_initial = torch.empty_like(start), torch.empty_like(start)
    spare, transposed = gates.new_empty((len(gates), 1, gates.shape[2])), call.recurrent.T.contiguous()
    arrays = [start, initial, call.mask, call.reset, transposed, d_outputs.contiguous(), torch.stack(d_final), outputs]
    run_rows(CELLS[call.kind], True, [*arrays, gates, kept, d_start, d_initial], gates.shape[1], spare, transposed)
    return d_start, () if initial is None else d_initial


def _before(call: Call, outputs: Array) -> Array:
    """Return h before each step."""
    before = torch.cat([call.ends[0][:, None], outputs[:, :-1]], dim=1)
    if call.reset is not None:
        rows, steps = call.reset.nonzero(as_tuple=True)
        before[rows, steps] = call.ends[len(call.ends) // 2][rows]
    return before
