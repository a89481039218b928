"""A traced graph of PyTorch's operators: which operations it may hold, and which of them can be left out."""

import operator
from typing import Any

import torch
from torch.fx.graph import CodeGen
from torch.multiprocessing.reductions import StorageWeakRef

from rnnstate.kernels.loops.placed_torch import place_loops

_CASTS = (torch.ops.aten.to.dtype, torch.ops.aten.to.dtype_layout)


def simplify(module: Any, count: int, training: bool) -> tuple[list[int], list[int]]:
    """Remove operations that change nothing from a graph, and let the graph take one flat list of tensors.

    Args:
        module: The traced `GraphModule`.
        count: The first `count` inputs are removed if no operation reads them.
        training: Whether gradients flow through the graph. Operations may then write into the first `count` inputs and
            draw numbers, and a `detach_` cuts a gradient.

    Returns:
        The indices of the first `count` inputs that remain, and of those that operations write into.

    Raises:
        ValueError: If an operation draws numbers, writes into an input, or does not belong to PyTorch.
    """
    graph = module.graph
    for node in graph.nodes:
        cuts = node.target is torch.ops.aten.detach_.default and not training
        if cuts or (node.target in _CASTS and _same_tensor(node)):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code(is_impure_node=is_impure)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    check(graph, inputs[count:] if training else inputs, may_draw=training)
    targets = {storage(target) for node in graph.nodes for target in written(node)}
    read = [index for index, node in enumerate(inputs[:count]) if node.users]
    for node in inputs[:count]:
        if not node.users:
            graph.erase_node(node)
    if training:
        place_loops(graph)
    graph.set_codegen(CodeGen())
    module.recompile()
    return read, [index for index in read if storage(inputs[index]) in targets]


def _same_tensor(node: Any) -> bool:
    """Return whether a cast returned its argument unchanged."""
    return bool(storage(node) == storage(node.args[0]) and node.meta["val"].dtype == node.args[0].meta["val"].dtype)


def storage(node: Any) -> Any:
    """Return the identity of the memory in which the result of an operation lies."""
    return StorageWeakRef(node.meta["val"].untyped_storage())


def is_impure(node: Any) -> bool:
    """Return whether an operation must run even if nothing reads its result."""
    return node.op in ("placeholder", "output") or bool(written(node)) or draws(node)


def check(graph: Any, kept: list[Any], may_draw: bool) -> None:
    """Check that operations only compute their results.

    Args:
        graph: The operations.
        kept: Inputs that no operation may write into.
        may_draw: Whether operations may draw numbers from the global generator, in their order.

    Raises:
        ValueError: If an operation does more.
    """
    memory = {storage(node) for node in kept}
    for node in graph.nodes:
        if node.op in ("placeholder", "output", "get_attr") or node.target is operator.getitem:
            continue
        known = isinstance(node.target, torch._ops.OpOverload) and not _has_generator(node)
        if not known or (draws(node) and not may_draw) or any(storage(target) in memory for target in written(node)):
            raise ValueError(f"A step that is kept must only compute. Received: {node.format_node()}.")


def _has_generator(node: Any) -> bool:
    """Return whether an operation draws from a generator that the code has made for this step."""
    return any(isinstance(part, torch.Generator) for part in (*node.args, *node.kwargs.values()))


def _arguments(node: Any) -> dict[str, Any]:
    known = node.target._schema.arguments
    defaults = {argument.name: argument.default_value for argument in known}
    return {**defaults, **dict(zip(defaults, node.args, strict=False)), **node.kwargs}


def written(node: Any) -> list[Any]:
    """Return the tensors that an operation writes into."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    names = [argument.name for argument in node.target._schema.arguments if argument.is_write]
    parts = [part for name, part in _arguments(node).items() if name in names]
    return [one for part in parts for one in (part if isinstance(part, (list, tuple)) else [part])]


def draws(node: Any) -> bool:
    """Return whether an operation draws numbers. PyTorch marks dropout as drawing even at rate 0."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    given = _arguments(node)
    rate = given.get("dropout", given.get("dropout_p", 1.0))
    return torch.Tag.nondeterministic_seeded in node.target.tags and bool(rate) and given.get("train") is not False
