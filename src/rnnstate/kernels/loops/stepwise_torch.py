"""PyTorch: the hoisted loop, step by step in Python. It lacks nothing, and PyTorch differentiates it to any order."""

from typing import Any

import torch
from keras import tree

from rnnstate.kernels.loops.definition import Array, Leaves, Loop
from rnnstate.kernels.loops.scanned import Inputs, forward, hoisted_loop


def hoisted(loop: Loop) -> tuple[Array, Leaves]:
    """Run the hoisted loop step by step. It can be differentiated to any order."""
    return hoisted_loop(loop, _step_by_step)


def _step_by_step(kind: str, inputs: Inputs) -> tuple[Array, Leaves]:
    final, (states, _) = forward(kind, inputs, _scan, save=False)
    return states[0], final


def _scan(step: Any, carry: Any, given: Any, reverse: bool) -> Any:
    """Scan like `jax.lax.scan`, in Python."""
    time = range(len(given[0]))
    steps = []
    for t in reversed(time) if reverse else time:
        carry, made = step(carry, tree.map_structure(lambda part, t=t: None if part is None else part[t], given))
        steps.append(made)
    return carry, tree.map_structure(lambda *parts: torch.stack(parts), *(steps[::-1] if reverse else steps))
