"""PyTorch: one step of a model traced to its tensor operations, once for each shape, and run without the network's Python.

A trace must not turn a decision that depends on values into a constant. It therefore runs on tensors without values, which
raise an error when Python asks for one. The traced operations may only compute their results. On the first call, these
must equal the results of the network. If one of these conditions fails, the network runs untraced.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import torch
from keras import ops, tree
from torch.fx.experimental.proxy_tensor import make_fx

from rnnstate.kernels.step.graph_torch import simplify


class CompiledStep:
    """A function of arrays and of a model's variables, compiled once for each shape, where no gradients are kept.

    Args:
        function: What to run. It may read and assign the variables, and returns outputs and a list of leaves.
        served: The variables that it uses, and the lock that Python code of the network runs under.
    """

    def __init__(self, function: Callable[..., Any], served: Any) -> None:
        self._function, self._variables, self._lock = function, served.variables, served.lock
        self._compiled: dict[Any, _Compiled | None] = {}

    def __call__(self, *args: Any) -> Any:
        if torch.is_grad_enabled() or _rewritten():
            return self._function(*args)
        arrays: list[Any] = []
        key = tuple(_described(part, arrays) for part in args)
        if key not in self._compiled:
            return self._first(key, args, arrays)
        compiled = self._compiled[key]
        return self._function(*args) if compiled is None else compiled(arrays)

    def _first(self, key: Any, args: Any, arrays: list[Any]) -> Any:
        """Run the function as it is, and keep the compiled one if it gives the same."""
        if any(type(array) is not torch.Tensor for array in arrays):
            return self._function(*args)
        # A trace replaces methods of all modules of the process while it runs.
        with self._lock:
            return self._made(key, args, arrays)

    def _made(self, key: Any, args: Any, arrays: list[Any]) -> Any:
        compiled = None
        # An error of the network itself is raised again below, where the network runs untraced.
        with suppress(Exception):
            compiled = _compile(self._function, self._variables, args, arrays)
            made = compiled.run(arrays)
        result = self._function(*args)
        self._compiled[key] = None
        with suppress(Exception):
            if compiled is not None and _alike(made, [*tree.flatten(result), *compiled.values()]):
                self._compiled[key] = compiled
        return result


@dataclass(frozen=True)
class _Compiled:
    """The operations of a step.

    Args:
        operations: Takes the values of the variables in `read`, then the arrays. Returns the results, then the new values
            of the variables in `assigned`, as one flat list.
        read: Variables that are read.
        assigned: Variables that are assigned.
        pack: Gives the flat results the structure that the step returns.
    """

    operations: Callable[..., Any]
    read: list[Any]
    assigned: list[Any]
    pack: Callable[[list[Any]], Any]

    def run(self, arrays: list[Any]) -> list[Any]:
        """Return results and new values, and change nothing."""
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


def _rewritten() -> bool:
    """Return whether operations are recorded or cast on the way, so that a kept trace would give other results."""
    casts = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return bool(casts or torch.jit.is_tracing() or torch.compiler.is_compiling())


def _described(part: Any, arrays: list[Any]) -> Any:
    """Add the arrays of an argument to `arrays`, as tensors, and return the properties that a trace depends on."""
    if part is None:
        return None
    if hasattr(part, "shape"):
        array = part if type(part) is torch.Tensor else ops.convert_to_tensor(part)
        arrays.append(array)
        return array.shape, array.stride(), array.dtype, array.device
    if type(part) is list:
        return tuple(_described(one, arrays) for one in part)
    structure = repr(tree.map_structure(lambda leaf: None, part))
    return structure, *(_described(leaf, arrays) for leaf in tree.flatten(part))


def _compile(function: Callable[..., Any], variables: list[Any], args: Any, arrays: list[Any]) -> _Compiled:
    """Trace a step.

    Raises:
        Exception: If an operation depends on a value, or does more than compute its result.
    """
    traced, ends = _Traced(function, variables, args), [*(variable.value for variable in variables), *arrays]
    with torch.inference_mode(False), torch.no_grad():
        # Each input gets a separate tensor. The trace would take a tensor that is given twice for one input.
        blanks = [torch.empty_strided(end.shape, end.stride(), dtype=end.dtype, device=end.device) for end in ends]
        module = make_fx(traced, tracing_mode="fake", pre_dispatch=True)(*blanks)
    read = [variables[i] for i in simplify(module, len(variables))]
    return _Compiled(module.forward, read, traced.assigned, traced.pack)


class _Traced:
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
        plain = structure[0] is None  # one array of outputs: packing by hand is faster than `tree`
        self.pack = (lambda made: (made[0], made[1:])) if plain else lambda made: tree.pack_sequence_as(structure, made)


def _alike(ones: list[Any], others: list[Any]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(
        one.dtype == other.dtype and torch.allclose(one, other, 1e-5, 1e-6, equal_nan=True) for one, other in pairs
    )
