"""The bank: one row per sequence of every leaf, as variables that a compiled training step reads and writes.

A slot is the number of a row. The keys of sequences get slots in the order in which they come (`rnnstate.model.by_key`):

    slot         0        1        2        3
    sequence     (spare)  "north"  "south"  (free)
    `lstm/h`     [ ...    [ h h h  [ h h h  [ 0 0 0     (capacity, units)
    `flags`        0        0        -1       0         (capacity,)

The empty rows of a batch read and write the spare row 0. The capacity is a power of two, so another dataset seldom changes
the shape of a variable, and with it the compiled step. A step takes and puts whole rows:

    batch row    0  1  2          taken = bank[slots]    (batch, *shape)
    slots        2  1  0          bank[slots] = final    row 2 of the batch is empty, so it writes to the spare row
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.kernels import kernels
from rnnstate.state.spec import LeafSpec, StateSpec
from rnnstate.state.state import Array, State, to_numpy

_FLAG = LeafSpec((), "float32")
# Where the next window of a row starts:
#   GIVEN    from the row, even if the window is the first of its sequence
#   CARRIED  from the row, or from the initial state if the window is the first
#   FRESH    from the initial state, which is computed again so that the gradient flows into it
GIVEN, CARRIED, FRESH = 1.0, 0.0, -1.0


def starts_fresh(flags: Array, first: Array) -> Array:
    """Return which rows start from the initial state, bool `(batch,)`, from their flags and which are a `first` window."""
    return ops.logical_or(flags < 0, ops.logical_and(first, flags <= 0))


class Bank:
    """Rows of state, addressed by slot.

    Args:
        spec: The leaves that each row has.
        name: Prefix of the names of its variables.
    """

    def __init__(self, spec: StateSpec, name: str) -> None:
        self._spec = spec
        self._name = name
        self.capacity = 2
        self.leaves = {leaf: self._variable(leaf, leaf_spec) for leaf, leaf_spec in spec.items()}
        # Where the next window of each row starts: GIVEN, CARRIED or FRESH.
        self.flags = self._variable("flags", _FLAG)

    def _variable(self, leaf: str, spec: LeafSpec, values: np.ndarray | None = None) -> Any:
        rows = np.zeros((self.capacity, *spec.shape), "float32" if spec.dtype == "bfloat16" else spec.dtype)
        if values is not None:
            rows[: len(values)] = values
        # autocast=False, because under mixed precision PyTorch would write into a copy and drop it.
        return keras.Variable(
            rows, dtype=spec.dtype, trainable=False, autocast=False, name=f"{self._name}_{leaf.replace('/', '_')}"
        )

    @property
    def variables(self) -> list[Any]:
        """The variables of the bank, in the order of the spec."""
        return [*self.leaves.values(), self.flags]

    def reserve(self, rows: int) -> bool:
        """Make room for slots 1 to `rows`. The present rows stay.

        Returns:
            True if larger variables have replaced the present ones.
        """
        if rows < self.capacity:
            return False
        self.capacity = 1 << rows.bit_length()
        self.leaves = {leaf: self._variable(leaf, self._spec[leaf], to_numpy(v)) for leaf, v in self.leaves.items()}
        self.flags = self._variable("flags", _FLAG, to_numpy(self.flags))
        return True

    def take(self, slots: Array) -> tuple[State, Array]:
        """Return the rows at `slots`, `(batch,)`, detached, and their flags."""
        *rows, flags = kernels().take_rows(self.variables, slots)
        return State.unchecked(self.leaves, rows), flags

    def put(self, slots: Array, state: State, flags: Array, fresh: Array | None = None) -> None:
        """Write rows after the windows that started from them.

        Args:
            slots: Where to write, `(batch,)`.
            state: The rows.
            flags: The flags that `take` returned.
            fresh: Where the next window starts from the initial state, `(batch,)`. Elsewhere it starts from the row.
        """
        # The `where` never chooses `flags`, as no flag exceeds GIVEN. It makes the write depend on a read: otherwise XLA
        # may write the flags before it reads them, and copies all of them at each step.
        after = ops.where(flags > GIVEN, flags, CARRIED)
        after = after if fresh is None else ops.where(fresh, FRESH, after)
        kernels().put_rows(self.variables, slots, [*(state[leaf] for leaf in self.leaves), after])

    def read(self, slots: np.ndarray) -> State:
        """Return the rows at `slots`, int `(rows,)`, as NumPy arrays `(rows, *shape)`.

        At most twice these rows travel to the host, and never the whole of a large bank.
        """
        return State({leaf: self._picked(variable, slots) for leaf, variable in self.leaves.items()})

    def read_flags(self, slots: np.ndarray) -> np.ndarray:
        """Return the flags at `slots` as a NumPy array `(rows,)`."""
        return self._picked(self.flags, slots)

    def _picked(self, variable: Any, slots: np.ndarray) -> np.ndarray:
        # Where most rows are wanted, a copy of all takes less time than to let the device pick rows.
        if self.capacity <= 2 * len(slots):
            rows: np.ndarray = kernels().arrays([variable.value])[0][slots]
            return rows
        return to_numpy(kernels().take_rows([variable], ops.convert_to_tensor(slots, dtype="int32"))[0])

    def write(self, slots: np.ndarray, state: State, flag: float) -> None:
        """Write rows from the host with the flag `GIVEN`, `CARRIED` or `FRESH`. Leaves missing in `state` stay."""
        index = ops.convert_to_tensor(slots, dtype="int32")
        rows = [ops.convert_to_tensor(rows, dtype=self._spec[leaf].dtype) for leaf, rows in state.items()]
        flags = ops.full((len(slots),), flag, dtype=_FLAG.dtype)
        kernels().put_rows([*(self.leaves[leaf] for leaf in state), self.flags], index, [*rows, flags])

    def clear_flags(self) -> None:
        """Let every first window start from the initial state again."""
        self.flags.assign(ops.full((self.capacity,), CARRIED, dtype=_FLAG.dtype))
