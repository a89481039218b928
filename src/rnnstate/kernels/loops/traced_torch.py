"""PyTorch: the native loop in a traced training step.

Native code needs values, and a trace has none. So a trace notes an operator in the place of the loop. The graph then gets
the loop:

    trace      y, h, c = ops.rnnstate.native_loop("lstm", x, kernel, ...)       shapes alone
    graph      y, h, c = run("lstm", x, kernel, ...)                            the loop with its backward pass
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from rnnstate.kernels.loops.definition import Array, Leaves, Loop

_tracing: ContextVar[bool] = ContextVar("tracing", default=False)


@contextmanager
def tracing() -> Iterator[None]:
    """Let a trace note native loops."""
    token = _tracing.set(True)
    try:
        yield
    finally:
        _tracing.reset(token)


def is_traced(x: Any) -> bool:
    """Return whether an input has no values because a training step is traced."""
    return _tracing.get() and type(x) is FakeTensor


def traced_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Note a loop in the trace. Its results have shapes and no values."""
    weights, flags = (loop.x, loop.kernel, loop.recurrent, loop.bias), (loop.mask, loop.reset)
    outputs, *final = _operator()(loop.kind, *weights, list(loop.state), *flags, list(loop.initial or ()))
    return outputs, tuple(final)


def place_loops(graph: Any, run: Callable[[Loop], tuple[Array, Leaves]]) -> None:
    """Let a graph run loops where the trace has noted them."""

    def loop(kind: str, x: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, *rest: Any) -> list[Array]:
        mask, reset, initial = rest
        outputs, final = run(Loop(kind, x, kernel, recurrent, bias, tuple(state), mask, reset, tuple(initial) or None))
        return [outputs, *final]

    _operator()
    noted = torch.ops.rnnstate.native_loop.default
    for node in graph.nodes:
        if node.target is noted:
            node.target = loop


@cache
def _operator() -> Any:
    """Register the operator with the first trace, and return it."""

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
    ) -> list[torch.Tensor]:
        raise NotImplementedError("The operator stands for a loop in a trace, and does not run.")

    @native_loop.register_fake
    def _(kind: Any, x: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, *rest: Any) -> list[torch.Tensor]:
        (batch, time, _), units = x.shape, recurrent.shape[0]
        return [x.new_empty((batch, time, units)), *[x.new_empty((batch, units)) for _ in state]]

    return native_loop
