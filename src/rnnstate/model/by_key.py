"""`model.states`: the rows of the training bank by the keys of sequences.

The bank knows rows by slot. `States` gives each new key the next slot, starting from 1, because row 0 is spare.
"""

import json
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnstate.errors import DataError, SpecMismatchError, StateStructureError, UnknownKeyError
from rnnstate.messages import quoted
from rnnstate.model.bank import CARRIED, FRESH, GIVEN, Bank
from rnnstate.state.checks import checked
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State

Key = Hashable
# The leaves of convolutions and of attention, which release 0.1.0 did not carry.
_LATER_LEAVES = ("past", "keys", "values", "valid")


class States:
    """The state in which the last training window of each sequence ended, as `model.states`.

    You may call `read`, `write` and `reset` at any time, also from callbacks. After `write`, the next window of a key starts
    from the written state, even if it is the first window of the sequence. `evaluate` and `predict` neither read nor change
    these rows.

    Args:
        spec: The leaves of the model.
        initial: Returns the initial state for a given number of rows.
        before: Called before each access, to update the variables.
        replaced: Called after larger variables have replaced those of the bank.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> model = rs.StatefulModel(net)
    >>> model.states.write(["north", "south"], {"gru/h": np.ones((2, 3))})
    >>> model.states.read("south")["gru/h"].tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(
        self,
        spec: StateSpec,
        initial: Callable[[int], State],
        before: Callable[[], None],
        replaced: Callable[[], None],
    ) -> None:
        self.bank = Bank(spec, "train")
        self._spec, self._initial, self._before, self._replaced = spec, initial, before, replaced
        self._slots: dict[Key, int] = {}
        self._last: tuple[tuple[Key, ...], np.ndarray] = (
            (),
            np.zeros(0, np.int32),
        )  # keys and slots of the last `reserve`

    @property
    def keys(self) -> tuple[Key, ...]:
        """Keys of all sequences that were trained on or written, in the order of their arrival."""
        return tuple(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __repr__(self) -> str:
        return f"States({len(self)} keys; leaves {quoted(self._spec, 6)})"

    def read(self, keys: Iterable[Key] | Key | None = None) -> State:
        """Return the states of the given sequences.

        Args:
            keys: Keys, or one key. By default all keys.

        Returns:
            A `State` of NumPy arrays with one row per key, in the order of `keys`.

        Raises:
            UnknownKeyError: If no state is known for a key.
        """
        self._before()
        return self.bank.read(self._known(keys))

    def write(self, keys: Iterable[Key] | Key, state: Mapping[str, Array]) -> None:
        """Set the states of the given sequences: all of them, or none if anything is wrong.

        Args:
            keys: Keys, or one key. New keys are added.
            state: Leaves `(len(keys), *shape)`. Missing leaves keep their value; for new keys this is the initial one.

        Raises:
            StateStructureError: If a leaf is unknown, or a key is given twice.
            StateShapeError: If a leaf has another shape than `(len(keys), *shape)`.
            StateValueError: If a leaf is not floating, or not finite.
        """
        listed = self._listed(keys)
        if len(set(listed)) != len(listed):
            raise StateStructureError(f"Each key must be given once. Received: {quoted(listed)}.")
        rows = checked(self._spec, state, batch_size=len(listed), partial=True)
        # The values of tensors can be checked only on the host.
        rows = checked(self._spec, rows.numpy(), batch_size=len(listed), partial=True)
        self._before()
        slots = self.reserve(listed)
        self.bank.write(slots, rows, GIVEN)

    def reset(self, keys: Iterable[Key] | Key | None = None) -> None:
        """Return the given sequences, or all, to their initial state.

        Raises:
            UnknownKeyError: If no state is known for a key.
        """
        self._before()
        slots = self._known(keys)
        if len(slots):
            self.bank.write(slots, self._initial(len(slots)), FRESH)

    def reserve(self, keys: Sequence[Key]) -> np.ndarray:
        """Return the slots of keys, int `(keys,)`. New keys get rows that hold the initial state."""
        # Every `fit` asks for all keys of the same windows, perhaps a million, and slots never change: look them up once.
        if keys is not self._last[0]:
            slots = self._looked_up(keys)
            if not isinstance(keys, tuple):
                return slots
            self._last = keys, slots
        return self._last[1].copy()

    def make_room(self, keys: Sequence[Key]) -> None:
        """Make the bank large enough for keys that come later, so that it need not grow batch by batch."""
        new = sum(key not in self._slots for key in keys)
        if self.bank.reserve(len(self) + new):
            self._replaced()

    def _looked_up(self, keys: Sequence[Key]) -> np.ndarray:
        # `map` is faster than a comprehension over a million keys.
        if not all(map(self._slots.__contains__, keys)):
            new = [key for key in dict.fromkeys(keys) if key not in self._slots]
            if self.bank.reserve(len(self) + len(new)):
                self._replaced()
            slots = np.arange(len(self) + 1, len(self) + 1 + len(new))
            self.bank.write(slots, self._initial(len(new)), FRESH)
            self._slots.update(zip(new, slots.tolist(), strict=True))
        return np.fromiter(map(self._slots.__getitem__, keys), dtype=np.int32, count=len(keys))

    def _listed(self, keys: Any) -> list[Key]:
        # A key may itself be a tuple, such as (key, piece).
        if isinstance(keys, (str, bytes, int)) or (isinstance(keys, tuple) and keys in self._slots):
            return [keys]
        return [key.item() if isinstance(key, np.generic) else key for key in keys]

    def _known(self, keys: Any) -> np.ndarray:
        listed = list(self._slots) if keys is None else self._listed(keys)
        unknown = [key for key in listed if key not in self._slots]
        if unknown:
            raise UnknownKeyError(
                f"No state is known for {len(unknown)} of {len(listed)} keys, first: {quoted(unknown[:3])}. "
                f"Known: {quoted(self._slots) or 'no key yet'}. Train on these sequences, or `write` their state."
            )
        return np.array([self._slots[key] for key in listed], dtype=np.int32)

    def save(self, store: Any) -> None:
        """Write keys, flags and rows to the store of a saved model."""
        self._before()
        slots = self._known(None)
        store["keys"] = np.frombuffer(json.dumps([_encoded(key) for key in self._slots]).encode(), dtype=np.uint8)
        store["flags"] = self.bank.read_flags(slots)
        for index, rows in enumerate(self.bank.read(slots).values()):
            store[f"leaf_{index}"] = rows

    def load(self, store: Any) -> None:
        """Replace all keys and rows by those in the store of a saved model.

        Release 0.1.0 did not carry convolutions and attention. Its files lack their leaves, which then start fresh.
        """
        keys = [_decoded(key) for key in json.loads(bytes(np.asarray(store["keys"])).decode() or "[]")]
        saved = self._saved_leaves(sum(name.startswith("leaf_") for name in tuple(store.keys())))
        rows = {leaf: np.asarray(store[f"leaf_{index}"]) for index, leaf in enumerate(saved)}
        for name in saved:
            leaf = self._spec[name]
            if tuple(rows[name].shape[1:]) != leaf.shape:
                raise SpecMismatchError(
                    f"Saved states must have leaf `{name}` of shape {leaf.describe(len(keys))}. "
                    f"Received: shape={rows[name].shape}. The file was saved by another model."
                )
        fresh = self._initial(len(keys)).numpy() if len(saved) < len(self._spec) and keys else {}
        state = State({name: rows[name] if name in rows else fresh[name] for name in self._spec}) if keys else None
        self._slots.clear()
        self._last = (), np.zeros(0, np.int32)
        if state is not None:
            slots = self.reserve(keys)
            flags = np.asarray(store["flags"])
            for flag in (GIVEN, CARRIED, FRESH):
                if (chosen := np.flatnonzero(flags == flag)).size:
                    self.bank.write(slots[chosen], state.rows(chosen), flag)

    def _saved_leaves(self, count: int) -> list[str]:
        """Return the names of the leaves in a file, whose number is known: all, or those that release 0.1.0 carried."""
        names = list(self._spec)
        older = [name for name in names if name.rpartition("/")[2] not in _LATER_LEAVES]
        if count == len(names) or count != len(older):
            return names
        warnings.warn(
            f"The file holds the states of {quoted(older)}. Received: a file of a release that did not carry the other "
            "layers, which start from their initial state.",
            stacklevel=3,
        )
        return older


def _encoded(key: Any) -> Any:
    """Return a key in a form that JSON can hold. A tuple becomes a list in a list."""
    if isinstance(key, tuple):
        return [[_encoded(part) for part in key]]
    if isinstance(key, np.generic):
        return key.item()
    if key is None or isinstance(key, (str, int, float, bool)):
        return key
    raise DataError(
        f"Keys must be strings, numbers or tuples of them to be saved. Received: {key!r} ({type(key).__name__})."
    )


def _decoded(key: Any) -> Any:
    return tuple(_decoded(part) for part in key[0]) if isinstance(key, list) else key
