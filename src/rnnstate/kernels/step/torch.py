"""PyTorch: one step of a model traced to its tensor operations, once for each shape, and run without the network's Python.

A trace must not turn a decision that depends on values into a constant. It therefore runs on tensors without values, which
raise an error when Python asks for one. The traced operations may only compute their results. On the first call, these
must equal the results of the network. If one of these conditions fails, the network runs untraced.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from keras import ops, tree

from rnnstate.kernels.step.trace_torch import Traced, trace


class CompiledStep:
    """A function of arrays and of a model's variables, compiled once for each shape, where no gradients are kept.

    Args:
        function: What to run. It may read and assign the variables, and returns outputs and a list of leaves.
        served: The variables that it uses, and the lock that Python code of the network runs under.
    """

    def __init__(self, function: Callable[..., Any], served: Any) -> None:
        self._function, self._variables, self._lock = function, served.variables, served.lock
        self._compiled: dict[Any, Traced | None] = {}

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
            compiled = trace(self._function, self._variables, args, arrays)
            made = compiled.run(arrays)
        result = self._function(*args)
        self._compiled[key] = None
        with suppress(Exception):
            if compiled is not None and _alike(made, [*tree.flatten(result), *compiled.values()]):
                self._compiled[key] = compiled
        return result


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


def _alike(ones: list[Any], others: list[Any]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(
        one.dtype == other.dtype and torch.allclose(one, other, 1e-5, 1e-6, equal_nan=True) for one, other in pairs
    )
