"""PyTorch: native loops in the place of the operators that a trace has noted.

forward graph                 loops with a backward pass, for autograd
graph of a whole step         the forward and the backward passes, as two functions
"""

from typing import Any

import torch

from rnnstate.kernels.loops.definition import Array, Loop, ends_of
from rnnstate.kernels.loops.native_torch import held_outputs, native_loop
from rnnstate.kernels.loops.passes_torch import Call, Made, backward_pass, forward_pass
from rnnstate.kernels.loops.traced_torch import operators


def place_loops(graph: Any) -> None:
    """Let a graph run loops with a backward pass."""
    _place(graph, _loop)


def place_passes(graph: Any) -> None:
    """Let a graph run the forward and the backward passes of loops."""
    _place(graph, _forward, _back)


def _place(graph: Any, *functions: Any) -> None:
    targets = dict(zip([operator._opoverload for operator in operators()], functions, strict=False))
    for node in graph.nodes:
        node.target = targets.get(node.target, node.target)


def _read(kind: str, x: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, *rest: Any) -> Loop:
    mask, reset, initial = rest
    return Loop(kind, x, kernel, recurrent, bias, tuple(state), mask, reset, tuple(initial) or None)


def _loop(*given: Any) -> list[Array]:
    outputs, final = native_loop(_read(*given))
    return [outputs, *final]


def _forward(*given: Any) -> list[Array]:
    loop = _read(*given)
    made, final = forward_pass(_call(loop))
    return [held_outputs(loop, made.outputs), *final, *made]


def _back(*given: Any) -> list[Array]:
    *inputs, outputs, gates, kept, d_outputs, d_final, needs_x = given
    loop = _read(*inputs)
    if loop.mask is not None:
        d_outputs = _through_held(loop, outputs, d_outputs)
    gradients = backward_pass(_call(loop), Made(outputs, gates, kept), d_outputs, d_final, needs_x)
    return [gradient for gradient in gradients if gradient is not None]


def _call(loop: Loop) -> Call:
    return Call(loop.kind, loop.x, loop.kernel, loop.recurrent, loop.bias, ends_of(loop), loop.mask, loop.reset)


def _through_held(loop: Loop, outputs: Array, d_outputs: Array) -> Array:
    """Return the gradient of h from the gradient of the outputs. At masked steps the outputs repeat h."""
    with torch.enable_grad():
        h = outputs.detach().requires_grad_()
        held = held_outputs(loop, h)
    if held is h:
        return d_outputs
    (d_h,) = torch.autograd.grad(held, h, d_outputs)
    return d_h
