"""PyTorch: a whole training step whose arrays stay in memory from step to step.

    list of operators      each operator takes new memory, and Python starts it
    resident               all results have places that stay, so the addresses are known:
                               small operators    one call of native code for many of them
                               loops              their calls are prepared
                               views              made once
                               others             write to their places

The memory of a batch comes and goes, so a step begins with a copy of the batch. It ends with copies of the logs and the
gradients, which the caller may keep.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import increment_version
from torch.fx.node import map_arg
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

from rnnstate.kernels.loops.placed_torch import prepared
from rnnstate.kernels.step.graph_torch import storage, written
from rnnstate.kernels.step.small_torch import FIRST, WORDS, Encoder, Operations, Words
from rnnstate.kernels.step.trace_torch import blank

# The most bytes that stay. glibc keeps as much for the steps whose memory does not stay.
MOST = 62 * 2**20
_COPY = torch.ops.aten.copy_.default
# Operators whose results depend on shapes alone.
_FILLS = {"ones_like", "zeros_like", "full_like"}


class Resident:
    """The operations of a graph, as one function of its inputs.

    Args:
        module: The operations of a whole step. It runs itself if the memory of a variable is another one.
        values: The tensors of the variables, whose memory stays.
        arrays: The arrays of a batch.
        constants: Tensors that are the same in each step.
    """

    @torch.no_grad()
    def __init__(self, module: Any, values: list[Any], arrays: list[Any], constants: list[Any]) -> None:
        graph, self._values, self._module = module.graph, values, module
        self._addresses = [value.data_ptr() for value in values]
        self._encoder, self._words, self._steps = Encoder(), Words(), list[Callable[[], Any]]()
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        batch = [torch.empty_strided(one.shape, one.stride(), dtype=one.dtype) for one in arrays]
        self._places: dict[Any, Any] = dict(zip(inputs, [*values, *batch, *constants], strict=True))
        self._batch = _Batch(self._encoder, batch, arrays)
        self._writes = {storage(target) for node in graph.nodes for target in written(node)}
        self._written = [one for one, node in zip(values, inputs, strict=False) if storage(node) in self._writes]
        for node in graph.nodes:
            if node.op == "call_function":
                self._places[node] = self._place(node)
        self._flush()
        kept = {id(value) for value in values}
        (made,) = (node.args[0] for node in graph.nodes if node.op == "output")
        self._made = [(self._places[node], id(self._places[node]) in kept) for node in made]

    def __call__(self, *given: Any) -> list[Any]:
        """Run the operations. Return the leaves of the logs, and the gradients."""
        if [value.data_ptr() for value in self._values] != self._addresses:
            made: list[Any] = self._module(*given)
            return made
        self._batch(given[len(self._values) :])
        for step in self._steps:
            step()
        increment_version(self._written)
        return [place if stays else place.clone() for place, stays in self._made]

    def _place(self, node: Any) -> Any:
        """Let the steps run an operation. Return the places of its results."""
        args, kwargs = map_arg((node.args, node.kwargs), self._places.__getitem__)
        if node.target is operator.getitem:
            return args[0][args[1]]
        loop = prepared(node.target, args)
        if loop is not None:
            return self._run_loop(*loop)
        if _is_in_place(node):
            to = self._places[node.args[0]] if isinstance(node.args[0], torch.fx.Node) else args[0]
            return self._run(node.target, to, args, kwargs, partial(node.target, *args, **kwargs))
        if _is_view(node) or (_name(node.target) in _FILLS and storage(node) not in self._writes):
            return node.target(*args, **kwargs)
        return self._new(node.target, tree_map(_blank, node.meta["val"]), args, kwargs)

    def _new(self, target: Any, to: Any, args: Any, kwargs: Any) -> Any:
        """Let the steps run an operator that returns new tensors. Return their places."""
        in_place = getattr(torch, f"{_name(target)}_", None) if isinstance(to, list) else None
        if in_place is None or self._encoder.words(_name(target), to, args, kwargs) is not None:
            return self._run(target, to, args, kwargs, _writing(target, to, args, kwargs))
        # PyTorch has no fast form of an operator on lists that writes to places, and a fast one in place.
        for place, one in zip(to, args[0], strict=True):
            self._copy(place, one)
        return self._run(target, to, args, kwargs, partial(in_place, to, *args[1:], **kwargs))

    def _copy(self, to: Any, given: Any) -> None:
        self._run(_COPY, to, (to, given), {}, partial(to.copy_, given))

    def _run(self, target: Any, to: Any, args: Any, kwargs: Any, otherwise: Callable[[], Any]) -> Any:
        """Let native code run an operator, or PyTorch."""
        words = self._encoder.words(_name(target), to, args, kwargs)
        if words is None:
            self._flush()
            self._steps.append(otherwise)
        else:
            self._words += words
        return to

    def _run_loop(self, ready: Any, results: list[Any]) -> list[Any]:
        for to, given in ready.copies:
            self._copy(to, given)
        self._flush()
        self._steps += ready.runs
        return results

    def _flush(self) -> None:
        """Let one call run the operations of native code up to here."""
        if self._words:
            self._steps.append(Operations(self._words))
        self._words = Words()


class _Batch:
    """Copies the arrays of a batch to their places. Their addresses change from batch to batch.

    Args:
        encoder: Writes operations.
        places: The places.
        arrays: The arrays of one batch. All batches have arrays of the same shapes, dtypes and strides.
    """

    def __init__(self, encoder: Encoder, places: list[Any], arrays: list[Any]) -> None:
        found = [encoder.words("copy_", to, (to, one), {}) for to, one in zip(places, arrays, strict=True)]
        self._native = [number for number, words in enumerate(found) if words is not None]
        self._others = [(number, places[number]) for number, words in enumerate(found) if words is None]
        self._operations = Operations([word for words in found for word in words or ()])

    def __call__(self, arrays: Any) -> None:
        """Copy arrays."""
        for place, number in enumerate(self._native):
            self._operations.words[place * WORDS + FIRST] = arrays[number].data_ptr()
        self._operations()
        for number, to in self._others:
            to.copy_(arrays[number])


def _blank(part: Any) -> Any:
    return None if part is None else blank(part)


def size_of(graph: Any) -> int | None:
    """Return how many bytes the results of all operations have, or `None` if one is no tensor."""
    inputs = {storage(node) for node in graph.nodes if node.op == "placeholder"}
    made = [part for node in graph.nodes if node.op == "call_function" for part in tree_leaves(node.meta.get("val"))]
    if not all(part is None or isinstance(part, torch.Tensor) for part in made):
        return None
    memory = [part.untyped_storage() for part in made if part is not None]
    sizes: dict[Any, int] = {StorageWeakRef(part): part.nbytes() for part in memory}
    return sum(size for place, size in sizes.items() if place not in inputs)


def _writing(target: Any, to: Any, args: Any, kwargs: Any) -> Callable[[], Any]:
    """Return a function that runs an operator and writes its results to places."""
    for overload in target.overloadpacket.overloads():
        arguments = getattr(target.overloadpacket, overload)._schema.arguments
        outs = [one.name for one in arguments if one.is_out]
        read = [(one.name, str(one.type)) for one in arguments if not one.is_out]
        same = read == [(one.name, str(one.type)) for one in target._schema.arguments]
        if same and len(outs) == 1 and isinstance(to, torch.Tensor):
            return partial(getattr(target.overloadpacket, overload), *args, **kwargs, **{outs[0]: to})

    def run() -> None:
        for place, made in zip(tree_leaves(to), tree_leaves(target(*args, **kwargs)), strict=True):
            if place is not None:
                place.copy_(made)

    return run


def _is_in_place(node: Any) -> bool:
    """Return whether an operator writes its results into arguments alone."""
    targets = {storage(target) for target in written(node)}
    return bool(targets) and _storages(node) <= targets


def _is_view(node: Any) -> bool:
    """Return whether the results of an operator lie in the memory of an argument."""
    given = {storage(one) for one in node.all_input_nodes if isinstance(one.meta["val"], torch.Tensor)}
    made = _storages(node)
    return _name(node.target) == "_unsafe_view" or bool(made and made <= given)


def _storages(node: Any) -> set[Any]:
    """Return the memory of the results of an operator."""
    return {StorageWeakRef(part.untyped_storage()) for part in tree_leaves(node.meta.get("val")) if part is not None}


def _name(target: Any) -> str:
    name: str = target._opname
    return name
