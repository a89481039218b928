"""PyTorch: a whole training step, traced to one flat list of operations without gradients.

    forward graph -> scaled loss -> backward pass -> Keras' optimizer -> new values of metrics and averages

The trace goes through autograd once, and notes the operations that PyTorch's engine runs. Later steps run these operations
on the memory of the variables, so no engine, no optimizer and no variable of Keras takes part. Keras assigns to variables
in place, so their memory stays the same.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.graph import CodeGen

from rnnstate.kernels.loops.blocks_torch import has_library
from rnnstate.kernels.loops.placed_torch import place_passes
from rnnstate.kernels.loops.traced_torch import tracing
from rnnstate.kernels.step.fold_torch import fold
from rnnstate.kernels.step.graph_torch import check, storage, written
from rnnstate.kernels.step.resident_torch import Resident, size_of
from rnnstate.kernels.step.trace_torch import Traced, blank

# Functions of `torch` that start sooner than the operators of the same names, which read their arguments by a schema.
_DIRECT = {
    "add", "addmm", "div", "eq", "ge", "gt", "index_select", "le", "logical_and", "logical_not", "logical_or", "lt",
    "maximum", "mean", "minimum", "mm", "mul", "neg", "pow", "rsub", "sqrt", "sub", "sum", "unsqueeze", "where",
    "_foreach_add", "_foreach_add_", "_foreach_div", "_foreach_mul", "_foreach_mul_", "_foreach_sqrt"
}  # fmt: skip
# Autograd splits these operators into one operation for each step of a window.
_SPLIT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
# The operations of a forward pass up to which its backward pass is traced too: above, the trace takes many seconds.
_MOST = 3000


@dataclass(frozen=True)
class Whole:
    """The operations of a whole training step.

    Args:
        operations: Takes the values, the arrays of a batch and the constants. Writes into the values. Returns the leaves of
            the logs, then a gradient for each trained value.
        values: The tensors of the variables that the step uses.
        constants: Tensors that are the same in each step.
        written: The variables that the operations write into.
        trained: The tensors of the trained variables.
        pack: Gives the leaves of the logs their structure.
        stays: The bytes of the results that stay in memory from step to step.
    """

    operations: Callable[..., Any]
    values: list[Any]
    constants: list[Any]
    written: list[Any]
    trained: list[Any]
    pack: Callable[[list[Any]], Any]
    stays: int = 0

    def run(self, arrays: list[Any]) -> tuple[list[Any], list[Any]]:
        """Train on a batch. Return the leaves of the logs and the gradients."""
        with torch.no_grad():
            made = self.operations(*self.values, *arrays, *self.constants)
        count = len(made) - len(self.trained)
        return made[:count], made[count:]

    def rehearse(self, arrays: list[Any]) -> list[Any]:
        """Train on a batch. Return the leaves of the logs, and copies of the parts of `results`."""
        logs, gradients = self.run(arrays)
        return [*logs, *gradients, *[variable.value.clone() for variable in self.written]]

    def results(self) -> list[Any]:
        """Return what a step has left behind: gradients and written variables."""
        return [*[value.grad for value in self.trained], *[variable.value for variable in self.written]]

    def __call__(self, arrays: list[Any]) -> Any:
        """Train on a batch, leave the gradients with the variables as Keras does, and return the logs."""
        logs, gradients = self.run(arrays)
        for value, gradient in zip(self.trained, gradients, strict=True):
            value.grad = gradient
        return self.pack(logs)


def is_long(traced: Traced) -> bool:
    """Return whether the trace of the whole step would be long, or would split one fast operator into many."""
    graph = traced.operations.__self__.graph  # type: ignore[attr-defined]  # the method of a graph module
    split = any(getattr(node.target, "_opname", None) in _SPLIT for node in graph.nodes)
    return split or len(graph.nodes) > _MOST


def trace_whole(traced: Traced, optimizer: Any, trained: list[Any], arrays: list[Any], most: int) -> list[Whole]:
    """Trace a whole step. Return it, after the same step on memory that stays.

    Args:
        traced: The traced forward pass. It returns the loss, the logs and the new values of variables.
        optimizer: Keras' optimizer, built.
        trained: The variables that it trains.
        arrays: The arrays of a batch.
        most: The most bytes that may stay in memory from step to step.

    Raises:
        Exception: If an operation depends on a value, or does more than compute its result or write into variables.
    """
    both = [*traced.read, *traced.assigned, *trained, *optimizer.variables]
    variables = list({id(variable): variable for variable in both}.values())
    step, values = _Step(traced, optimizer, trained, variables), [variable.value for variable in variables]
    with torch.inference_mode(False), torch.enable_grad(), tracing(back=True):
        blanks = [blank(end).requires_grad_(end.requires_grad) for end in (*values, *arrays)]
        module = make_fx(step, tracing_mode="fake")(*blanks)
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    check(module.graph, inputs[len(values) :], may_draw=True)
    targets = {storage(target) for node in module.graph.nodes for target in written(node)}
    changed = [one for one, node in zip(variables, inputs, strict=False) if storage(node) in targets]
    constants = fold(module)
    place_passes(module.graph)
    resident, size = None, size_of(module.graph)
    on_cpu = all(end.device.type == "cpu" for end in (*values, *arrays))
    if size is not None and size <= most and on_cpu and has_library():
        with suppress(Exception):  # an operator of another form: the list runs
            resident = Resident(module, values, arrays, constants)
    _call_directly(module.graph)
    module.graph.set_codegen(CodeGen())
    module.recompile()
    ends = [variable.value for variable in trained]
    whole = Whole(module.forward, values, constants, changed, ends, _packer(traced, step.logs))
    return [whole] if resident is None else [replace(whole, operations=resident, stays=size or 0), whole]


def _call_directly(graph: Any) -> None:
    for node in graph.nodes:
        name = getattr(node.target, "_opname", None)
        if name in _DIRECT:
            node.target = getattr(torch, name)


def _packer(traced: Traced, count: int) -> Callable[[list[Any]], Any]:
    """Return a function that gives the leaves of the logs their structure."""
    structure = traced.pack([None, *range(count)])["logs"]
    if all(type(place) is int for place in structure.values()):
        return lambda logs: {name: logs[place] for name, place in structure.items()}
    return lambda logs: traced.pack([None, *logs])["logs"]


class _Step:
    """A training step as a function of one flat list of tensors: first the variables, then the arrays of a batch."""

    def __init__(self, traced: Traced, optimizer: Any, trained: list[Any], variables: list[Any]) -> None:
        self._traced, self._optimizer, self._trained, self._variables = traced, optimizer, trained, variables
        self.logs = 0

    def __call__(self, *tensors: Any) -> list[Any]:
        values, arrays = tensors[: len(self._variables)], tensors[len(self._variables) :]
        given = {id(variable): value for variable, value in zip(self._variables, values, strict=True)}
        made = self._traced.operations(*[given[id(variable)] for variable in self._traced.read], *arrays)
        logs = made[1 : len(made) - len(self._traced.assigned)]
        self.logs = len(logs)
        loss = self._optimizer.scale_loss(made[0])
        gradients = torch.autograd.grad(loss, [given[id(variable)] for variable in self._trained])
        with torch.no_grad():
            with keras.StatelessScope(list(zip(self._variables, values, strict=True))) as scope:
                self._optimizer.apply(list(gradients), self._trained)
            changed = dict(zip(map(id, self._traced.assigned), made[1 + len(logs) :], strict=True))
            for variable, value in zip(self._variables, values, strict=True):
                new = changed.get(id(variable), scope.get_current_value(variable))
                if new is not value:
                    value.copy_(new)
        return [*logs, *gradients]
