"""A graph without gradients: operations whose results are known, or are computed twice, are left out.

    constant     depends on no input                       computed once, here; the graph takes the result as an input
    repeated     same operation, same unchanged inputs     the first result serves both
    same         returns its input: a view of the same shape, a choice that is always the same, a product with ones

None of these changes a bit of the results. Operations that write in place or draw numbers stay.
"""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch.fx.node import map_arg
from torch.multiprocessing.reductions import StorageWeakRef

from rnnstate.kernels.step.graph_torch import draws, is_impure, storage, written

_aten = torch.ops.aten
_CHOICES = (_aten.where.self, _aten.where.ScalarSelf, _aten.where.ScalarOther)
_FACTORS = (_aten.mul.Tensor, _aten.div.Tensor)


def fold(module: Any) -> list[Any]:
    """Simplify the graph of a module. Return the constants, which become its last inputs."""
    folding = _Folding(module)
    for node in list(module.graph.nodes):
        folding.take(node)
    module.graph.eliminate_dead_code(is_impure_node=is_impure)
    return _as_inputs(module.graph, folding.constants)


class _Folding:
    """The facts about a graph up to an operation.

    Args:
        module: The module of the graph.
    """

    def __init__(self, module: Any) -> None:
        self._module, self._graph = module, module.graph
        self.constants: dict[Any, Any] = {}
        self._found: dict[Any, Any] = {}
        # How often the memory of a tensor was written before the operation.
        self._writes: dict[Any, int] = {storage(target): 0 for node in self._graph.nodes for target in written(node)}

    def take(self, node: Any) -> None:
        """Look at the next operation."""
        if node.op not in ("call_function", "get_attr") or (draws(node) and not written(node)):
            return
        if written(node):
            for target in written(node):
                self._writes[storage(target)] += 1
        elif self._is_constant(node):
            self.constants[node] = self._value(node)
        elif _is_aten(node):
            same = self._same(node) or self._found.setdefault(self._key(node), node)
            if same is not node:
                self._replace(node, same)

    def _replace(self, node: Any, other: Any) -> None:
        node.replace_all_uses_with(other)
        self._graph.erase_node(node)

    def _is_constant(self, node: Any) -> bool:
        given = all(one in self.constants for one in node.all_input_nodes)
        known = node.op == "get_attr" or node.target is operator.getitem or _is_aten(node)
        return given and known and not any(part in self._writes for part in _storages(node))

    def _value(self, node: Any) -> Any:
        if node.op == "get_attr":
            return getattr(self._module, node.target)
        args, kwargs = map_arg((node.args, node.kwargs), self.constants.__getitem__)
        return node.target(*args, **kwargs)

    def _key(self, node: Any) -> Any:
        """Return a key that two operations share only if they give the same. Each write to an input makes another key."""
        if any(part in self._writes and part not in self._inputs(node) for part in _storages(node)):
            return node  # its result is written later
        writes = tuple(self._writes.get(part, 0) for one in node.all_input_nodes for part in _storages(one))
        return node.target, repr((node.args, node.kwargs)), writes

    def _inputs(self, node: Any) -> set[Any]:
        return {part for one in node.all_input_nodes for part in _storages(one)}

    def _same(self, node: Any) -> Any:
        """Return the node whose result an operation returns unchanged, or `None`."""
        first = node.args[0] if node.args else None
        if not isinstance(first, torch.fx.Node) or not isinstance(node.meta["val"], torch.Tensor):
            return None
        if storage(first) == storage(node) and _alike(first, node):
            return first
        other = None
        if node.target in _CHOICES and node.args[0] in self.constants:
            chosen = self.constants[node.args[0]]
            other = node.args[1] if bool(chosen.all()) else None if bool(chosen.any()) else node.args[2]
        elif node.target in _FACTORS and node.args[1] in self.constants:
            other = first if bool((self.constants[node.args[1]] == 1).all()) else None
        # A copy may not be left out if the memory of one of the two is written later.
        kept = isinstance(other, torch.fx.Node) and not any(
            part in self._writes for one in (other, node) for part in _storages(one)
        )
        return other if kept and _alike(other, node) else None


def _is_aten(node: Any) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten"


def _alike(*nodes: Any) -> bool:
    one, other = (
        (part.shape, part.stride(), part.storage_offset(), part.dtype, part.device)
        for part in (node.meta["val"] for node in nodes)
    )
    return bool(one == other)


def _storages(node: Any) -> Iterator[Any]:
    """Yield the memory of the results of an operation."""
    made = node.meta.get("val")
    for part in made if isinstance(made, (list, tuple)) else [made]:
        if isinstance(part, torch.Tensor):
            yield StorageWeakRef(part.untyped_storage())


def _as_inputs(graph: Any, constants: dict[Any, Any]) -> list[Any]:
    """Replace constants by inputs at the end of the list of inputs."""
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    used = [node for node in constants if any(user not in constants for user in node.users)]
    values = []
    for number, node in enumerate(used):
        with graph.inserting_after(last):
            last = graph.placeholder(f"constant_{number}")
        last.meta.update(node.meta)
        node.replace_all_uses_with(last)
        values.append(constants[node])
    for node in reversed(graph.nodes):
        if node in constants:
            graph.erase_node(node)
    return values
