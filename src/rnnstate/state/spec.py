"""What the state of a model must look like: a shape and a dtype for each named leaf. Pure Python."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rnnstate.errors import SpecMismatchError, UnknownKeyError
from rnnstate.messages import quoted

# Keras numbers the layers of a process (`lstm_3`), so the number says when a layer was made, not what it is.
_COUNTER = re.compile(r"_\d+$")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LeafSpec:
    """Shape and dtype of one leaf.

    Args:
        shape: Shape of one row, without the batch axis: `(units,)` for h and c of an LSTM.
        dtype: Name of the dtype in which the leaf is kept between windows.

    Example:

    >>> LeafSpec((8,)).describe(batch_size=10)
    '(batch=10, units=8)'
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    def describe(self, batch_size: int | None = None) -> str:
        """Return the expected shape as a reader writes it: `(batch=10, units=8)`."""
        batch = "batch" if batch_size is None else f"batch={batch_size}"
        sizes = [f"units={self.shape[0]}"] if len(self.shape) == 1 else [str(size) for size in self.shape]
        return f"({', '.join([batch, *sizes])})"


class StateSpec(Mapping[str, LeafSpec]):
    """The named leaves that a state must have, in the order in which the network computes them.

    Args:
        leaves: Leaf name to `LeafSpec`; names are layer paths such as `encoder/lstm/h`.

    Example:

    >>> spec = StateSpec({"lstm/h": LeafSpec((8,)), "lstm/c": LeafSpec((8,))})
    >>> spec["lstm/h"].describe(batch_size=10)
    '(batch=10, units=8)'
    >>> spec.fingerprint == StateSpec({"lstm_7/h": LeafSpec((8,)), "lstm_7/c": LeafSpec((8,))}).fingerprint
    True
    """

    def __init__(self, leaves: Mapping[str, LeafSpec]) -> None:
        self._leaves = dict(leaves)

    def __getitem__(self, name: str) -> LeafSpec:
        if name not in self._leaves:
            raise UnknownKeyError(f"The leaves are {quoted(self._leaves, 6)}. Received: `{name}`.")
        return self._leaves[name]

    def __contains__(self, name: object) -> bool:
        return name in self._leaves

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def __repr__(self) -> str:
        rows = (f"{name}: {leaf.describe()} {leaf.dtype}" for name, leaf in self.items())
        return f"StateSpec({', '.join(rows)})"

    def __hash__(self) -> int:
        return hash(frozenset(self._leaves.items()))

    @property
    def fingerprint(self) -> str:
        """Hash of the architecture of the state: equal for two models of one architecture.

        Order, shapes and dtypes count, and so do names, but for the numbers that Keras appends to them to tell the
        layers of one process apart.
        """
        names = _without_counters(tuple(self._leaves))
        rows = [(name, leaf.shape, leaf.dtype) for name, leaf in zip(names, self._leaves.values(), strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def adopt(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Rename the leaves of another model of the same architecture to those of this spec, by their order.

        Args:
            state: State of a model with the same fingerprint, under other layer names.

        Returns:
            A mapping of this spec's leaf names to the same arrays.

        Raises:
            SpecMismatchError: If the architectures differ.
        """
        if len(state) == len(self):
            pairs = zip(state.items(), self.values(), strict=True)
            other = StateSpec({name: LeafSpec(tuple(v.shape)[1:], leaf.dtype) for (name, v), leaf in pairs})
        if len(state) != len(self) or other.fingerprint != self.fingerprint:
            raise SpecMismatchError(
                f"The state must be of the same architecture: {self}. Received: {len(state)} leaves, "
                + ", ".join(f"{name}: {tuple(value.shape)}" for name, value in list(state.items())[:3])
            )
        return dict(zip(self, state.values(), strict=True))


def below(leaves: Mapping[str, _Value], path: str) -> dict[str, _Value]:
    """Return the leaves of a layer or a nested network, by their names after `path/`.

    Example:

    >>> below({"encoder/lstm/h": 1, "encoder/lstm/c": 2, "encoder_2/gru/h": 3}, "encoder")
    {'lstm/h': 1, 'lstm/c': 2}
    """
    prefix = f"{path}/"
    return {name[len(prefix) :]: value for name, value in leaves.items() if name.startswith(prefix)}


def is_at(path: str, name: str) -> bool:
    """Whether `name` is a path itself, or the path of a layer or a nested network around it.

    Example:

    >>> is_at("encoder/lstm/h", "encoder"), is_at("encoder/lstm/h", "enc")
    (True, False)
    """
    return path == name or path.startswith(f"{name}/")


def _without_counters(names: tuple[str, ...]) -> list[str]:
    """Number equal layer names anew, by their order in this model: `lstm_5, lstm_6` become `lstm, lstm_1`."""
    seen: dict[str, list[str]] = {}

    def renumber(path: str) -> str:
        parent, _, name = path.rpartition("/")
        base = f"{renumber(parent)}/" if parent else ""
        base += _COUNTER.sub("", name)
        paths = seen.setdefault(base, [])
        if path not in paths:
            paths.append(path)
        return f"{base}_{paths.index(path)}" if paths.index(path) else base

    return [renumber(name) for name in names]
