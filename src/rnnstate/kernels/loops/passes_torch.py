"""PyTorch on the CPU: the forward and the backward pass of a native loop, as plain functions without autograd.

forward    projects the input, runs the loop, keeps the gates
backward   runs the loop back, then sums the gradients of the kernels

Each pass is prepared once, and can then run several times on the same memory.

gates  (batch, time, gates * units)   the activated gates; the backward pass writes the gradients of the projected input
kept   (batch, time, units)           c of an LSTM, or the recurrent product of a GRU
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from rnnstate.kernels.loops.blocks_torch import BACK, FORWARD, gradient_of_x_run, rows_run, scratch_for_strips, sums_run
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


class Pass(NamedTuple):
    """A prepared pass.

    Args:
        copies: Pairs of arrays. Before each run, the second one is copied to the first one.
        runs: What then runs, in order.
    """

    copies: list[tuple[Array, Array]]
    runs: list[Callable[[], Any]]

    def __call__(self) -> None:
        """Run the pass."""
        for to, given in self.copies:
            to.copy_(given)
        for run in self.runs:
            run()

    def dense(self, array: Array) -> Array:
        """Return an array, or the place of a contiguous copy."""
        if array.is_contiguous():
            return array
        self.copies.append((torch.empty_like(array, memory_format=torch.contiguous_format), array))
        return self.copies[-1][0]

    def turned(self, kernel: Array, rows: int, steps: int) -> tuple[Array, Array | None]:
        """Return a kernel whose transpose is a factor, and scratch for its strips. Native code transposes it into strips."""
        if not lie_in_strips(rows, steps):
            return self.dense(kernel.T), None
        return self.dense(kernel), scratch_for_strips(kernel.shape[1], len(kernel), kernel)

    def stacked(self, ends: Any, leaves: int) -> tuple[Array, Array | None]:
        """Return places for the leaves before the window and the leaves after a reset, as one array each."""
        places = ends[0].new_empty((len(ends), *ends[0].shape))
        self.copies.extend(zip(places, ends, strict=True))
        return places[:leaves], places[leaves:] if len(ends) > leaves else None


def forward_pass(call: Call) -> tuple[Made, Array]:
    """Run a loop. Return its results and the final leaves, `(leaves, batch, units)`."""
    run, made, final = prepare_forward(call)
    run()
    return made, final


def backward_pass(call: Call, made: Made, d_outputs: Array, d_final: Any, needs_x: bool) -> list[Array | None]:
    """Run a loop back. It overwrites the gates and `kept`.

    Returns:
        The gradients of the input, of both kernels and of the bias, and of each of the ends. The gradient of the input is
        `None` if nothing needs it.
    """
    run, gradients = prepare_back(call, made, d_outputs, d_final, needs_x)
    run()
    return gradients


def prepare_forward(call: Call) -> tuple[Pass, Made, Array]:
    """Return a pass, the places of its results, and the place of the final leaves."""
    kind, x, recurrent, bias = call.kind, call.x, call.recurrent, call.bias
    (batch, time, features), units, leaves, ready = x.shape, len(recurrent), 2 if kind == "lstm" else 1, Pass([], [])
    recurrent_bias = None if kind != "gru" or bias is None else ready.dense(bias[1])
    gates, projection = _projection(ready, kind, x, call.kernel, bias)
    outputs, kept = x.new_empty((batch, time, units)), x.new_empty((batch, time, units * (kind in _KEEPS)))
    final, spare = x.new_empty((leaves, batch, units)), x.new_empty((batch, 1, gates.shape[2] + features))
    start, initial = ready.stacked(call.ends, leaves)
    rows = ready.dense(recurrent)
    arrays = [start, initial, call.mask, call.reset, rows, recurrent_bias, *projection, gates, outputs, kept, final]
    strips = scratch_for_strips(units + features, gates.shape[2], x) if lie_in_strips(batch, time) else None
    ready.runs.append(rows_run(CELLS[kind], FORWARD, arrays, time, spare, strips))
    return ready, Made(outputs, gates, kept), final


def prepare_back(
    call: Call, made: Made, d_outputs: Array, d_final: Any, needs_x: bool
) -> tuple[Pass, list[Array | None]]:
    """Return a pass, and the places of the gradients as `backward_pass` returns them."""
    ready = Pass([], [])
    start, initial = ready.stacked(call.ends, len(d_final))
    d_start, d_initial = torch.empty_like(start), torch.empty_like(start)
    _prepare_loop(ready, call, made, (start, initial, d_start, d_initial), (d_outputs, d_final))
    sums = _prepare_sums(ready, call, made, (start, initial))
    d_x = torch.empty_like(call.x, memory_format=torch.contiguous_format) if needs_x else None
    if d_x is not None:
        kernel, strips = ready.turned(call.kernel, d_x.shape[0] * d_x.shape[1], 1)
        ready.runs.append(gradient_of_x_run(made.gates, kernel, strips, d_x))
    return ready, [d_x, *sums, *d_start, *(() if initial is None else d_initial)]


def _projection(ready: Pass, kind: str, x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Any]:
    """Return the array for the projected input, and the arrays with which native code fills it. PyTorch fills few rows."""
    width = kernel.shape[1]
    gates = x.new_empty((*x.shape[:2], width))
    if bias is None:
        bias = x.new_zeros(width)
    elif kind == "gru":
        bias = bias[0]
    if len(x) < ROWS_FOR_STRIPS:
        given, result = ready.dense(x).view(-1, x.shape[2]), gates.view(-1, width)
        ready.runs.append(lambda: torch.addmm(bias, given, kernel, out=result))
        return gates, (None, None, None)
    return gates, (ready.dense(x), ready.dense(kernel), ready.dense(bias))


def _prepare_loop(ready: Pass, call: Call, made: Made, ends: Any, gradients: Any) -> None:
    """Let a pass run the loop back. The gradients of the projected input and of a GRU's product overwrite two arrays."""
    (outputs, gates, kept), (start, initial, d_start, d_initial), (d_outputs, d_final) = made, ends, gradients
    spare = gates.new_empty((len(gates), 1, gates.shape[2]))
    recurrent, strips = ready.turned(call.recurrent, *gates.shape[:2])
    d_ends, _ = ready.stacked(d_final, len(d_final))
    arrays = [start, initial, call.mask, call.reset, recurrent, ready.dense(d_outputs), d_ends, outputs]
    arrays += [None, gates, kept, d_start, d_initial]
    ready.runs.append(rows_run(CELLS[call.kind], BACK, arrays, gates.shape[1], spare, strips))


def _prepare_sums(ready: Pass, call: Call, made: Made, ends: Any) -> tuple[Array, Array, Array | None]:
    """Let a pass sum the gradients of the kernel, the recurrent kernel and the bias. Return their places."""
    x, (outputs, d_x, d_kept) = call.x, made
    is_gru, (features, units), width = call.kind == "gru", (x.shape[2], outputs.shape[2]), d_x.shape[2]
    both = x.new_empty((features + 1 + units + is_gru, width))
    sums_x, sums_h = both[: features + 1], both[features + 1 :]
    arrays = [*ends, None, call.reset, None, d_x, ready.dense(x), outputs, d_kept if is_gru else None]
    ready.runs.append(sums_run([*arrays, sums_x, sums_h, None, None]))
    d_bias = both[features :: units + 1] if is_gru else sums_x[features]
    return sums_x[:features], sums_h[:units], None if call.bias is None else d_bias
