"""PyTorch: rows are written in place; assigning a whole new bank would copy it at every step."""

from typing import Any

import torch

from rnnstate.kernels.loops_torch import has_loop, no_loop_because, recurrent_loop
from rnnstate.kernels.reference import CompiledStep, has_replicas, many_steps, register_state

__all__ = [
    "CompiledStep",
    "has_loop",
    "has_replicas",
    "many_steps",
    "no_loop_because",
    "put_rows",
    "recurrent_loop",
    "register_state",
    "take_rows",
]


def take_rows(variable: Any, slots: Any) -> Any:
    """Return copies of the rows `slots` of a variable."""
    return variable.value.index_select(0, slots.long())


def put_rows(variable: Any, slots: Any, rows: Any) -> None:
    """Write `rows` to the rows `slots` of a variable, in place."""
    value = variable.value
    with torch.no_grad():
        value.index_copy_(0, slots.long(), rows.detach().to(value.dtype))
