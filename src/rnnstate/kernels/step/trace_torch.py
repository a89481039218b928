"""PyTorch: a function of arrays and of a model's variables, traced to one graph of PyTorch's operators.

function(args), which reads and assigns variables
  | trace      the Python code runs once, on tensors without values
operations(values of the variables that are read, arrays) -> (results, new values of the variables that are assigned)
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import torch
from keras import tree
from torch.fx.experimental.proxy_tensor import make_fx

from rnnstate.kernels.loops.traced_torch import tracing
from rnnstate.kernels.step.graph_torch import simplify


@dataclass(frozen=True)
class Traced:
    """The operations of a step.

    Args:
        operations: Takes the values of the variables in `read`, then the arrays. Returns the results, then the new values
            of the variables in `assigned`, as one flat list.
        read: Variables that are read.
        assigned: Variables that are assigned.
        written: Variables that the operations write into, in place.
        pack: Gives the flat results the structure that the step returns.
    """

    operations: Callable[..., Any]
    read: list[Any]
    assigned: list[Any]
    written: list[Any]
    pack: Callable[[list[Any]], Any]

    def run(self, arrays: list[Any]) -> list[Any]:
        """Return results and new values, and change nothing but the variables in `written`."""
        made: list[Any] = self.operations(*[variable.value for variable in self.read], *arrays)
        return made

    def values(self) -> list[Any]:
        """Return the present values of the variables that a step assigns."""
        return [variable.value for variable in self.assigned]

    def __call__(self, arrays: list[Any]) -> Any:
        made = self.run(arrays)
        for variable in reversed(self.assigned):
            variable.assign(made.pop())
        return self.pack(made)


def trace(
    function: Callable[..., Any], variables: list[Any], args: Any, arrays: list[Any], training: bool = False
) -> Traced:
    """Trace a step.

    Args:
        function: The step, as `function(*args)`.
        variables: All variables that it may use.
        args: Its arguments.
        arrays: The arrays among its arguments, in order.
        training: Whether gradients flow through the operations. They may then write into variables.

    Raises:
        Exception: If an operation depends on a value, or does more than compute its result.
    """
    traced, ends = _Tracing(function, variables, args), [*(variable.value for variable in variables), *arrays]
    loops = tracing() if training else nullcontext()
    with torch.inference_mode(False), torch.set_grad_enabled(training), loops:
        # Each input gets a separate tensor. The trace would take a tensor that is given twice for one input.
        blanks = [blank(end).requires_grad_(training and end.requires_grad) for end in ends]
        module = make_fx(traced, tracing_mode="fake", pre_dispatch=True)(*blanks)
    read, written = ([variables[i] for i in part] for part in simplify(module, len(variables), training))
    return Traced(module.forward, read, traced.assigned, written, traced.pack)


def blank(end: Any) -> Any:
    """Return an empty tensor like another one."""
    return torch.empty_strided(end.shape, end.stride(), dtype=end.dtype, device=end.device)


class _Tracing:
    """A step as a function of one flat list of tensors: first the variables, then the arguments."""

    def __init__(self, function: Callable[..., Any], variables: list[Any], args: Any) -> None:
        self._function, self._variables, self._args = function, variables, args
        self.assigned: list[Any] = []

    def __call__(self, *tensors: Any) -> list[Any]:
        left = iter(tensors[len(self._variables) :])
        packed = [None if leaf is None else next(left) for leaf in tree.flatten(self._args)]
        with keras.StatelessScope(list(zip(self._variables, tensors, strict=False))) as scope:
            before = [scope.get_current_value(variable) for variable in self._variables]
            result = self._function(*tree.pack_sequence_as(self._args, packed))
        pairs = zip(self._variables, before, strict=True)
        self.assigned = [variable for variable, old in pairs if scope.get_current_value(variable) is not old]
        self._keep_structure(result)
        return [*tree.flatten(result), *map(scope.get_current_value, self.assigned)]

    def _keep_structure(self, result: Any) -> None:
        structure = tree.map_structure(lambda leaf: None, result)
        # One array of outputs and a list of leaves: packing by hand is faster than `tree`.
        plain = type(structure) is tuple and structure[0] is None and type(structure[1]) is list
        self.pack = (lambda made: (made[0], made[1:])) if plain else lambda made: tree.pack_sequence_as(structure, made)
