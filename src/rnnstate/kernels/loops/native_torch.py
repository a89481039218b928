"""PyTorch on the CPU: the native loops, as a function with its own backward pass.

    native_loop ── dropout, shapes ──► _Native.forward    projects the input, runs the loop, keeps the gates
                                       _Native.backward   runs the loop back, then sums the gradients of the kernels

For a gradient of a gradient, PyTorch differentiates the hoisted loop, which computes the same values.
"""

from typing import Any

import torch

from rnnstate.kernels.loops.blocks_torch import BACK, FORWARD, has_library, run_product, run_rows, run_sums
from rnnstate.kernels.loops.definition import GATES, Array, Leaves, Loop
from rnnstate.kernels.loops.scanned import held
from rnnstate.kernels.loops.stepwise_torch import hoisted
from rnnstate.kernels.loops.traced_torch import is_traced, traced_loop
from rnnstate.kernels.native.library import ROWS_FOR_STRIPS

_NATIVE = {"lstm": 0, "gru": 1, "rnn": 2}
_KEEPS = ("lstm", "gru")
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def has_native_loop(loop: Loop) -> bool:
    """Tell whether a loop can run as native code: plain tensors of float32 with values, on the CPU."""
    x = loop.x
    return (
        loop.kind in _NATIVE
        and not loop.recurrent_dropout
        and len(loop.dropout) < 2
        and (type(x) is torch.Tensor or is_traced(x))
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and not (torch.jit.is_tracing() or torch.compiler.is_compiling() or _transformed())
        and has_library()
    )


def native_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop."""
    if is_traced(loop.x):
        return traced_loop(loop)
    loop = in_shape(loop)
    x = loop.x * loop.dropout[0][:, None] if loop.dropout else loop.x
    initial = () if loop.reset is None else loop.initial or loop.state
    flags = loop.mask, loop.reset
    outputs, *final = _Native.apply(loop.kind, flags, x, loop.kernel, loop.recurrent, loop.bias, *loop.state, *initial)
    return _held(loop, outputs), tuple(final)


def in_shape(loop: Loop) -> Loop:
    """Return a loop whose arrays have the exact shapes and dtypes. Native code reads its arrays without a check."""
    (batch, time, features), units = loop.x.shape, loop.recurrent.shape[0]
    width = GATES[loop.kind] * units

    def leaves(given: Leaves | None) -> Any:
        return given and tuple(_shaped(leaf, batch, units).to(loop.x.dtype) for leaf in given)

    def flags(given: Array | None) -> Any:
        return None if given is None else _shaped(given, batch, time).bool().contiguous()

    return loop._replace(
        kernel=_shaped(loop.kernel, features, width),
        recurrent=_shaped(loop.recurrent, units, width),
        bias=None if loop.bias is None else _shaped(loop.bias, *(2, width)[loop.kind != "gru" :]),
        state=leaves(loop.state),
        initial=leaves(loop.initial),
        mask=flags(loop.mask),
        reset=flags(loop.reset),
    )


def _shaped(array: Array, *shape: int) -> Array:
    return array if tuple(array.shape) == shape else array.expand(shape)


def _held(loop: Loop, outputs: Array) -> Array:
    """Return outputs that repeat the last valid step at masked steps. Most masks need no work: h is that output already."""
    mask, reset = loop.mask, loop.reset
    if mask is None:
        return outputs
    if reset is None or not bool((reset & ~mask).any()):
        loop = loop._replace(reset=None)
        if bool(mask[:, 0].all()):
            return outputs
    return held(loop, outputs)


class _Native(torch.autograd.Function):
    """A loop as native code: `(kind, flags, x, kernel, recurrent, bias, *state, *initial) -> (outputs, *final)`."""

    @staticmethod
    def forward(
        ctx: Any, kind: str, flags: Any, x: Array, kernel: Array, recurrent: Array, bias: Any, *ends: Array
    ) -> Any:
        (batch, time, _), units, leaves = x.shape, len(recurrent), 2 if kind == "lstm" else 1
        recurrent_bias = None if kind != "gru" or bias is None else bias[1].contiguous()
        gates, projection = _projection(kind, x, kernel, bias)
        outputs, kept = x.new_empty((batch, time, units)), x.new_empty((batch, time, units * (kind in _KEEPS)))
        final, spare = x.new_empty((leaves, batch, units)), x.new_empty((batch, 1, gates.shape[2]))
        start, initial = _stacked(ends, leaves)
        rows = recurrent.contiguous()
        arrays = [start, initial, *flags, rows, recurrent_bias, *projection, gates, outputs, kept, final]
        run_rows(_NATIVE[kind], FORWARD, arrays, time, spare, rows)
        ctx.kind, ctx.flags = kind, flags
        ctx.save_for_backward(x, kernel, recurrent, bias, outputs, gates, kept, *ends)
        return outputs, *(leaf.clone() for leaf in final)

    @staticmethod
    def backward(ctx: Any, d_outputs: Array, *d_final: Array) -> Any:
        x, kernel, recurrent, bias, outputs, gates, kept, *ends = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = x, kernel, recurrent, bias, *ends
            return None, None, *_differentiated(ctx, given, (d_outputs, *d_final))
        if _keeps_graph():  # native code overwrites both, and this backward pass may run again
            gates, kept = gates.clone(), kept.clone()
        d_start, d_initial = _run_back(ctx, recurrent, (outputs, gates, kept), (d_outputs, d_final), ends)
        d_kernel, d_recurrent, d_bias = _sums(ctx, x, (outputs, gates, kept), ends, bias)
        d_x = run_product(gates, kernel.T) if ctx.needs_input_grad[2] else None
        return None, None, d_x, d_kernel, d_recurrent, d_bias, *d_start, *d_initial


def _projection(kind: str, x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Any]:
    """Return the array for the projected input, and what native code needs to fill it. PyTorch fills it for few rows."""
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


def _run_back(ctx: Any, recurrent: Array, made: Any, gradients: Any, ends: Any) -> tuple[Array, Any]:
    """Run the loop back. The gradients of the projected input and of a GRU's product overwrite the gates and `kept`."""
    outputs, gates, kept = made
    d_outputs, d_final = gradients
    start, initial = _stacked(ends, len(d_final))
    d_start, d_initial = torch.empty_like(start), torch.empty_like(start)
    spare, transposed = gates.new_empty((len(gates), 1, gates.shape[2])), recurrent.T.contiguous()
    arrays = [start, initial, *ctx.flags, transposed, d_outputs.contiguous(), torch.stack(d_final), outputs, None]
    run_rows(_NATIVE[ctx.kind], BACK, [*arrays, gates, kept, d_start, d_initial], gates.shape[1], spare, transposed)
    return d_start, () if initial is None else d_initial


def _sums(ctx: Any, x: Array, made: Any, ends: Any, bias: Array | None) -> tuple[Array, Array, Array | None]:
    """Return the gradients of the kernel, the recurrent kernel and the bias, after the way back."""
    outputs, d_x, d_kept = made
    is_gru, (features, units), width = ctx.kind == "gru", (x.shape[2], outputs.shape[2]), d_x.shape[2]
    start, initial = _stacked(ends, 2 if ctx.kind == "lstm" else 1)
    sums_x, sums_h = x.new_empty((features + 1, width)), x.new_empty((units + is_gru, width))
    arrays = [start, initial, None, ctx.flags[1], None, d_x, x.contiguous(), outputs, d_kept if is_gru else None]
    run_sums([*arrays, sums_x, sums_h, None, None])
    d_bias = torch.stack([sums_x[features], sums_h[units]]) if is_gru else sums_x[features]
    return sums_x[:features], sums_h[:units], None if bias is None else d_bias


def _differentiated(ctx: Any, given: Any, gradients: Any) -> list[Array | None]:
    """Return gradients that can be differentiated again."""
    x, kernel, recurrent, bias, *ends = given
    mask, reset = ctx.flags
    state = tuple(ends) if reset is None else tuple(ends[: len(ends) // 2])
    loop = Loop(ctx.kind, x, kernel, recurrent, bias, state, mask, reset, tuple(ends[len(state) :]) or None)
    outputs, final = hoisted(loop)
    wanted = [part for part, needed in zip(given, ctx.needs_input_grad[2:], strict=True) if needed]
    found = iter(torch.autograd.grad((outputs, *final), wanted, gradients, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[2:]]
