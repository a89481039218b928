"""PyTorch on the CPU: the native loops, as a function with its own backward pass.

    native_loop ── dropout, shapes ──► _Native.forward    the forward pass of `passes_torch`
                                       _Native.backward   its backward pass

For a gradient of a gradient, PyTorch differentiates the hoisted loop, which computes the same values.
"""

from typing import Any

import torch

from rnnstate.kernels.loops.blocks_torch import has_library
from rnnstate.kernels.loops.definition import GATES, Array, Leaves, Loop, begins_with_h, ends_of
from rnnstate.kernels.loops.passes_torch import CELLS, Call, Made, backward_pass, forward_pass
from rnnstate.kernels.loops.scanned import held
from rnnstate.kernels.loops.stepwise_torch import hoisted
from rnnstate.kernels.loops.traced_torch import is_traced, traced_loop

_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def has_native_loop(loop: Loop) -> bool:
    """Tell whether a loop can run as native code: plain tensors of float32 with values, on the CPU."""
    x = loop.x
    return (
        loop.kind in CELLS
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
    if loop.dropout:
        loop = loop._replace(x=loop.x * loop.dropout[0][:, None], dropout=())
    if is_traced(loop.x):
        return traced_loop(loop, in_shape)
    loop = in_shape(loop)
    weights, flags = (loop.x, loop.kernel, loop.recurrent, loop.bias), (loop.mask, loop.reset)
    outputs, *final = _Native.apply(loop.kind, flags, *weights, *ends_of(loop))
    return held_outputs(loop, outputs), tuple(final)


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


def held_outputs(loop: Loop, outputs: Array) -> Array:
    """Return outputs that repeat the last valid step at masked steps. Most masks need no work: h is that output already."""
    mask, reset = loop.mask, loop.reset
    if mask is None or begins_with_h(loop):
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
        made, final = forward_pass(Call(kind, x, kernel, recurrent, bias, ends, *flags))
        ctx.kind, ctx.flags = kind, flags
        ctx.save_for_backward(x, kernel, recurrent, bias, *made, *ends)
        return made.outputs, *(leaf.clone() for leaf in final)

    @staticmethod
    def backward(ctx: Any, d_outputs: Array, *d_final: Array) -> Any:
        x, kernel, recurrent, bias, outputs, gates, kept, *ends = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = x, kernel, recurrent, bias, *ends
            return None, None, *_differentiated(ctx, given, (d_outputs, *d_final))
        if _keeps_graph():  # native code overwrites both, and this backward pass may run again
            gates, kept = gates.clone(), kept.clone()
        call = Call(ctx.kind, x, kernel, recurrent, bias, ends, *ctx.flags)
        made = Made(outputs, gates, kept)
        return None, None, *backward_pass(call, made, d_outputs, d_final, ctx.needs_input_grad[2])


def _differentiated(ctx: Any, given: Any, gradients: Any) -> list[Array | None]:
    """Return gradients that can be differentiated again."""
    x, kernel, recurrent, bias, *ends = given
    mask, reset = ctx.flags
    state = tuple(ends) if reset is None else tuple(ends[: len(ends) // 2])
    initial = tuple(ends[len(state) :]) or None
    # The outputs of the native loop are h at all steps.
    loop = Loop(ctx.kind, x, kernel, recurrent, bias, state, mask, reset, initial, repeats_h=True)
    outputs, final = hoisted(loop)
    wanted = [part for part, needed in zip(given, ctx.needs_input_grad[2:], strict=True) if needed]
    found = iter(torch.autograd.grad((outputs, *final), wanted, gradients, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[2:]]
