"""PyTorch: small operators as operations of native code, which gives the same bits and starts within nanoseconds.

    operator of a graph, on tensors that stay  ──►  operations of `csrc/operations.h`, or `None`

Products of matrices, sums, powers, square roots and dropout stay with PyTorch. So do operators on many elements, which
PyTorch shares among threads.
"""

import math
from array import array
from collections.abc import Callable
from typing import Any

import torch

from rnnstate.kernels.native.library import library

# The kinds of operations, in the order of `csrc/operations.h`.
_NAMES = (
    "add subtract multiply divide add_scaled negate less less_or_equal equal both either neither choose "
    "copy_1 copy_4 copy_8 int_to_long int_to_float long_to_float add_ints add_longs take put"
)
_KINDS = {name: number for number, name in enumerate(_NAMES.split())}
_COMPUTED = {"add", "subtract", "multiply", "divide", "add_scaled", "negate"}
_AXES, _READ = 3, 3
# The words of an operation, and the place of the address of the first operand that it reads.
WORDS, FIRST = (1 + _AXES) * (2 + _READ), 2 * (1 + _AXES)
# From so many elements on, PyTorch shares most operators among threads. One thread chooses faster, because it copies lines.
_MANY, _MANY_CHOSEN = 2**15, 2**18

_FLOAT, _BOOL, _INT, _LONG = torch.float32, torch.bool, torch.int32, torch.int64
_COPIES = {_BOOL: "copy_1", _FLOAT: "copy_4", _INT: "copy_4", _LONG: "copy_8"}
_CASTS = {(_INT, _LONG): "int_to_long", (_INT, _FLOAT): "int_to_float", (_LONG, _FLOAT): "long_to_float"}

Words = list[int]
# Takes the tensor that an operator writes and its arguments. Returns a kind, and the operands that it reads.
Rule = Callable[..., tuple[str, list[Any]] | None]


class Operations:
    """Operations that run one after another, in one call.

    Args:
        words: The words of all operations.
    """

    def __init__(self, words: Words) -> None:
        self.words = array("q", words)
        self._address, self._count = self.words.buffer_info()[0], len(words) // WORDS

    def __call__(self) -> None:
        """Run all operations.

        Raises:
            IndexError: If an index is negative, or not below the number of rows.
        """
        if library().rnnstate_run_operations(self._address, self._count) != self._count:
            raise IndexError(
                "An index must be from 0 to the number of rows minus 1. Received: an index out of this range."
            )


class Encoder:
    """Writes operators as operations. It keeps the numbers among their arguments as tensors."""

    def __init__(self) -> None:
        self._numbers: list[Any] = []

    def words(self, name: str, to: Any, given: Any, options: dict[str, Any]) -> Words | None:
        """Return an operator as operations, or `None` if only PyTorch runs it.

        Args:
            name: The name of the operator, without an overload.
            to: The tensor that it writes, or a list of tensors for an operator on lists.
            given: Its arguments.
            options: Its arguments by name.
        """
        if name.startswith("_foreach_"):
            return self._each(name.removeprefix("_foreach_"), to, given, options)
        rule = _RULES.get(name) or _RULES.get(name.removesuffix("_"))
        if rule is None or to.device.type != "cpu":
            return None
        most = _MANY_CHOSEN if name == "where" else _MANY
        if not 0 < (given[-1] if name == "index_copy_" else to).numel() < most:
            return None
        found = rule(to, *given, **{key: value for key, value in options.items() if value is not None})
        return None if found is None else self._operation(found[0], to, found[1])

    def _each(self, name: str, to: Any, given: Any, options: dict[str, Any]) -> Words | None:
        """Return an operator on lists: one operation for each place in the lists."""
        words: Words = []
        for place, one in enumerate(to):
            here = [part[place] if isinstance(part, (list, tuple)) else part for part in given]
            found = self.words(name, one, here, options)
            if found is None:
                return None
            words += found
        return words

    def _operation(self, kind: str, to: Any, given: list[Any]) -> Words | None:
        if kind in ("take", "put"):
            return _indexed(kind, to, *given)
        read = [self._tensor(one, to.dtype) for one in given]
        if any(_overlap(to, one) for one in read):
            return None
        axes = _axes(to, [one.expand(to.shape) for one in read])
        if len(axes) > _AXES or (kind in _COMPUTED and any(step > 1 for step in axes[-1][1:])):
            return None
        axes = [(1, *[0] * (1 + len(read)))] * (_AXES - len(axes)) + axes
        sizes, *steps = zip(*axes, strict=True)
        words = [_KINDS[kind], *sizes]
        for tensor, along in zip([to, *read], steps, strict=True):
            words += [tensor.data_ptr(), *along]
        return words + [0] * (WORDS - len(words))

    def _tensor(self, given: Any, dtype: Any) -> Any:
        """Return an operand as a tensor. A comparison writes flags and reads floats."""
        if isinstance(given, torch.Tensor):
            return given
        self._numbers.append(torch.tensor(given, dtype=_FLOAT if dtype == _BOOL else dtype))
        return self._numbers[-1]


def _overlap(to: Any, given: Any) -> bool:
    """Return whether an operation could read an element after it has written it."""
    shared = to.untyped_storage().data_ptr() == given.untyped_storage().data_ptr()
    same = to.data_ptr() == given.data_ptr() and to.shape == given.shape and to.stride() == given.stride()
    return shared and not same


def _axes(to: Any, read: list[Any]) -> list[tuple[int, ...]]:
    """Return the size of each axis, and the steps of all operands along it. Neighbours become one axis where they can."""
    found: list[tuple[int, ...]] = []
    for axis, size in enumerate(to.shape):
        steps = [one.stride(axis) for one in (to, *read)]
        if size == 1:
            continue
        if found and all(before == step * size for before, step in zip(found[-1][1:], steps, strict=True)):
            found[-1] = (found[-1][0] * size, *steps)
        else:
            found.append((size, *steps))
    return found or [(1, *[0] * (1 + len(read)))]


def _indexed(kind: str, to: Any, rows: Any, indices: Any) -> Words | None:
    """Return a copy of rows at indices: `take` reads rows of an array, and `put` writes rows of an array."""
    plain = to.is_contiguous() and rows.is_contiguous() and indices.is_contiguous()
    if not plain or indices.dtype != _LONG or indices.dim() != 1 or rows.dtype != to.dtype:
        return None
    whole = rows if kind == "take" else to
    sizes = [len(whole), len(indices), math.prod(whole.shape[1:]) * whole.element_size()]
    words = [_KINDS[kind], *sizes]
    for tensor in (to, rows, indices):
        words += [tensor.data_ptr(), 0, 0, 0]
    return words + [0] * (WORDS - len(words))


def _all(dtype: Any, *given: Any) -> bool:
    """Return whether tensors have a dtype. A number takes the dtype of the tensors."""
    return all(one.dtype == dtype if isinstance(one, torch.Tensor) else type(one) in (int, float) for one in given)


def _floats(kind: str, turned: bool = False) -> Rule:
    """Return the rule of an operator on floats."""

    def rule(to: Any, *given: Any, **options: Any) -> Any:
        if options.pop("alpha", 1) != 1 or options or not _all(_FLOAT, to, *given):
            return None
        return kind, list(reversed(given)) if turned else list(given)

    return rule


def _compared(kind: str, turned: bool = False) -> Rule:
    """Return the rule of a comparison of floats."""

    def rule(to: Any, a: Any, b: Any) -> Any:
        return (kind, [b, a] if turned else [a, b]) if _all(_FLOAT, a, b) else None

    return rule


def _flags(kind: str) -> Rule:
    """Return the rule of an operator on flags."""
    return lambda to, *given: (kind, list(given)) if _all(_BOOL, *given) else None


def _add(to: Any, a: Any, b: Any, alpha: Any = 1) -> Any:
    kinds = {_FLOAT: "add", _INT: "add_ints", _LONG: "add_longs"}
    if to.dtype not in kinds or not _all(to.dtype, a, b) or (to.dtype != _FLOAT and type(b) is float):
        return None
    if alpha == 1:
        return kinds[to.dtype], [a, b]
    return ("add_scaled", [a, b, alpha]) if to.dtype == _FLOAT else None


def _power(to: Any, a: Any, exponent: Any) -> Any:
    if isinstance(exponent, torch.Tensor) or exponent not in (1, 2) or not _all(_FLOAT, to, a):
        return None
    return ("multiply", [a, a]) if exponent == 2 else ("copy_4", [a])


def _where(to: Any, condition: Any, a: Any, b: Any) -> Any:
    return ("choose", [condition, a, b]) if condition.dtype == _BOOL and _all(_FLOAT, to, a, b) else None


def _copy(to: Any, before: Any, given: Any, non_blocking: bool = False) -> Any:
    return _cast(to, given)


def _cast(to: Any, given: Any, **options: Any) -> Any:
    # The options name the dtype and the memory format of the result. `to` has both already.
    if (given.dtype, to.dtype) == (_BOOL, _FLOAT):
        return "choose", [given, 1.0, 0.0]
    kind = _COPIES.get(to.dtype) if given.dtype == to.dtype else _CASTS.get((given.dtype, to.dtype))
    return kind and (kind, [given])


def _take(to: Any, rows: Any, axis: int, indices: Any) -> Any:
    return ("take", [rows, indices]) if axis == 0 else None


def _put(to: Any, before: Any, axis: int, indices: Any, rows: Any) -> Any:
    return ("put", [rows, indices]) if axis == 0 else None


def _sum_of_one(to: Any, given: Any, *axes: Any, **options: Any) -> Any:
    """Return a sum of one number, which PyTorch adds to zero, or the mean of one number, which is the same."""
    if options or given.numel() != to.numel() or not given.is_contiguous() or not _all(_FLOAT, to, given):
        return None
    return "add", [given.view(to.shape), 0.0]


_RULES: dict[str, Rule] = {
    "add": _add,
    "sub": _floats("subtract"),
    "rsub": _floats("subtract", turned=True),
    "mul": _floats("multiply"),
    "div": _floats("divide"),
    "neg": _floats("negate"),
    "pow": _power,
    "lt": _compared("less"),
    "le": _compared("less_or_equal"),
    "eq": _compared("equal"),
    "gt": _compared("less", turned=True),
    "ge": _compared("less_or_equal", turned=True),
    "logical_and": _flags("both"),
    "logical_or": _flags("either"),
    "logical_not": _flags("neither"),
    "where": _where,
    "copy_": _copy,
    "_to_copy": _cast,
    "clone": _cast,
    "index_select": _take,
    "index_copy_": _put,
    "sum": _sum_of_one,
    "mean": _sum_of_one,
}
