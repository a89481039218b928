"""PyTorch: native loops in a trace.

Native code needs values, and a trace has none. So a trace notes an operator in the place of the loop:

    y, h, c, *made = ops.rnnstate.native_loop("lstm", x, kernel, ...)                  shapes alone
    d_x, d_kernel, ... = ops.rnnstate.native_loop_back("lstm", x, ..., *made, d_y)     in a trace of the backward pass

`placed_torch` then puts native code in the place of the operators.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from rnnstate.kernels.loops.definition import Array, Leaves, Loop, ends_of

# `None`, or whether the trace goes through the backward pass.
_tracing: ContextVar[bool | None] = ContextVar("tracing", default=None)


@contextmanager
def tracing(back: bool = False) -> Iterator[None]:
    """Let a trace note native loops.

    Args:
        back: Whether the trace goes through the backward pass. If not, the graph gets loops with a backward pass.
    """
    token = _tracing.set(back)
    try:
        yield
    finally:
        _tracing.reset(token)


def is_traced(x: Any) -> bool:
    """Return whether an input has no values because a training step is traced."""
    return _tracing.get() is not None and type(x) is FakeTensor


def traced_loop(loop: Loop, in_shape: Callable[[Loop], Loop]) -> tuple[Array, Leaves]:
    """Note a loop in the trace. Its results have shapes and no values."""
    leaves = len(loop.state)
    if not _tracing.get():
        made = operators()[0](loop.kind, *_weights(loop), list(loop.state), *_flags(loop))
        return made[0], tuple(made[1 : 1 + leaves])
    loop = in_shape(loop)
    flags = loop.mask, loop.reset, loop.repeats_h
    outputs, *final = _Noted.apply(loop.kind, flags, leaves, *_weights(loop), *ends_of(loop))
    return outputs, tuple(final)


def _weights(loop: Loop) -> tuple[Any, ...]:
    return loop.x, loop.kernel, loop.recurrent, loop.bias


def _flags(loop: Loop) -> tuple[Any, ...]:
    return loop.mask, loop.reset, list(loop.initial or ()), loop.repeats_h


class _Noted(torch.autograd.Function):
    """A loop whose trace goes through the backward pass."""

    @staticmethod
    def forward(ctx: Any, kind: str, flags: Any, leaves: int, *arrays: Any) -> Any:
        weights, ends = arrays[:4], arrays[4:]
        *steps, repeats_h = flags
        made = operators()[0](kind, *weights, list(ends[:leaves]), *steps, list(ends[leaves:]), repeats_h)
        ctx.kind, ctx.flags, ctx.leaves = kind, flags, leaves
        ctx.save_for_backward(*arrays, *made[1 + leaves :])
        return tuple(made[: 1 + leaves])

    @staticmethod
    def backward(ctx: Any, d_outputs: Array, *d_final: Array) -> Any:
        saved, leaves = ctx.saved_tensors, ctx.leaves
        weights, ends, made = saved[:4], saved[4:-3], saved[-3:]
        *steps, repeats_h = ctx.flags
        given = ctx.kind, *weights, list(ends[:leaves]), *steps, list(ends[leaves:]), repeats_h, *made
        gradients = iter(operators()[1](*given, d_outputs, list(d_final), ctx.needs_input_grad[3]))
        asked = [ctx.needs_input_grad[3], True, True, weights[3] is not None, *[True] * len(ends)]
        return None, None, None, *[next(gradients) if one else None for one in asked]


@cache
def operators() -> tuple[Any, Any]:
    """Register the operators with the first trace, and return them: the loop, and its backward pass."""

    @torch.library.custom_op("rnnstate::native_loop", mutates_args=())
    def native_loop(
        kind: str,
        x: torch.Tensor,
        kernel: torch.Tensor,
        recurrent: torch.Tensor,
        bias: torch.Tensor | None,
        state: list[torch.Tensor],
        mask: torch.Tensor | None,
        reset: torch.Tensor | None,
        initial: list[torch.Tensor],
        repeats_h: bool,
    ) -> list[torch.Tensor]:
        raise NotImplementedError("The operator stands for a loop in a trace, and does not run.")

    @torch.library.custom_op("rnnstate::native_loop_back", mutates_args=())
    def native_loop_back(
        kind: str,
        x: torch.Tensor,
        kernel: torch.Tensor,
        recurrent: torch.Tensor,
        bias: torch.Tensor | None,
        state: list[torch.Tensor],
        mask: torch.Tensor | None,
        reset: torch.Tensor | None,
        initial: list[torch.Tensor],
        repeats_h: bool,
        outputs: torch.Tensor,
        gates: torch.Tensor,
        kept: torch.Tensor,
        d_outputs: torch.Tensor,
        d_final: list[torch.Tensor],
        needs_x: bool,
    ) -> list[torch.Tensor]:
        raise NotImplementedError("The operator stands for a backward pass in a trace, and does not run.")

    @native_loop.register_fake
    def _(kind: Any, x: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, *rest: Any) -> list[torch.Tensor]:
        (batch, time, _), (units, width) = x.shape, recurrent.shape
        final = [x.new_empty((batch, units)) for _ in state]
        h, h_again = (x.new_empty((batch, time, units)) for _ in range(2))
        return [h, *final, h_again, x.new_empty((batch, time, width)), x.new_empty((batch, time, units))]

    @native_loop_back.register_fake
    def _(kind: Any, x: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, *rest: Any) -> list[torch.Tensor]:
        weights = [kernel, recurrent, *([] if bias is None else [bias])]
        ends = [*state, *rest[2]]
        return [torch.empty_like(part) for part in [*([x] if rest[-1] else []), *weights, *ends]]

    return native_loop, native_loop_back
