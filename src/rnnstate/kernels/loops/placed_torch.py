"""PyTorch: native loops in the place of the operators that a trace has noted.

forward graph                 loops with a backward pass, for autograd
graph of a whole step         the forward and the backward passes, as two functions
the same on kept memory       the same passes, prepared once
"""

from typing import Any

import torch

from rnnstate.kernels.loops.definition import Array, Loop, begins_with_h, ends_of
from rnnstate.kernels.loops.native_torch import held_outputs, native_loop
from rnnstate.kernels.loops.passes_torch import (
    Call,
    Made,
    Pass,
    backward_pass,
    forward_pass,
    prepare_back,
    prepare_forward,
)
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
    mask, reset, initial, repeats_h = rest
    start = tuple(initial) or None
    return Loop(kind, x, kernel, recurrent, bias, tuple(state), mask, reset, start, repeats_h=repeats_h)


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
    if not _is_h(loop):
        d_outputs = _through_held(loop, outputs, d_outputs)
    gradients = backward_pass(_call(loop), Made(outputs, gates, kept), d_outputs, d_final, needs_x)
    return [gradient for gradient in gradients if gradient is not None]


def prepared(function: Any, given: Any) -> tuple[Pass, list[Array]] | None:
    """Prepare a function of `place_passes`, if it is one. Return the pass, and the places of the function's results."""
    prepare = {_forward: _prepare_forward, _back: _prepare_back}.get(function)
    return None if prepare is None else prepare(*given)


def _prepare_forward(*given: Any) -> tuple[Pass, list[Array]]:
    loop = _read(*given)
    ready, made, final = prepare_forward(_call(loop))
    outputs = made.outputs if _is_h(loop) else torch.empty_like(made.outputs)
    if not _is_h(loop):
        ready.runs.append(lambda: outputs.copy_(held_outputs(loop, made.outputs)))
    return ready, [outputs, *final, *made]


def _prepare_back(*given: Any) -> tuple[Pass, list[Array]]:
    *inputs, outputs, gates, kept, d_outputs, d_final, needs_x = given
    loop = _read(*inputs)
    d_h = d_outputs if _is_h(loop) else torch.empty_like(outputs)
    ready, gradients = prepare_back(_call(loop), Made(outputs, gates, kept), d_h, d_final, needs_x)
    if not _is_h(loop):
        ready.runs.insert(0, lambda: d_h.copy_(_through_held(loop, outputs, d_outputs)))
    return ready, [gradient for gradient in gradients if gradient is not None]


def _call(loop: Loop) -> Call:
    return Call(loop.kind, loop.x, loop.kernel, loop.recurrent, loop.bias, ends_of(loop), loop.mask, loop.reset)


def _is_h(loop: Loop) -> bool:
    """Return whether the output of each step is h, whatever the flags."""
    return loop.mask is None or begins_with_h(loop)


def _through_held(loop: Loop, outputs: Array, d_outputs: Array) -> Array:
    """Return the gradient of h from the gradient of the outputs. At masked steps the outputs repeat h."""
    with torch.enable_grad():
        h = outputs.detach().requires_grad_()
        held = held_outputs(loop, h)
    if held is h:
        return d_outputs
    (d_h,) = torch.autograd.grad(held, h, d_outputs)
    return d_h
