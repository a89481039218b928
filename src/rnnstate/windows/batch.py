"""One batch of windows: the contract between the datasets in `windows/` and the carrying in `model/`.

A dataset hands out data and facts about it. It never hands out a state. `Batch` lists these facts, with their shapes.
Keras takes no dataclass, so a batch travels through `fit` as a plain dict of arrays: `to_keras` makes this dict, and
`from_keras` reads it. The names of the fields are the keys of the dict, and they appear in this file alone. A dataset that
a user writes uses the same names, see `docs/windows.md`.

The time axis of a batch has two parts, `lead` steps before the window and the `length` steps of the window:

    step      0 ........ lead | lead ........ lead + length
    x         before          | window                       (batch, lead + length, features)
    mask      which exist     | which are not padding        (batch, lead + length)
    y         -               | window                       (batch, length, outputs)
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from rnnstate.errors import DataError

# A NumPy array in a dataset, and a tensor of the backend inside the compiled step.
Array = Any


@dataclass(frozen=True, eq=False)
class Batch:
    """The inputs of one batch: one window of one sequence in each row.

    An optional field is `None` in all batches of a dataset or in none of them, so all batches have one structure and the
    compiled step is compiled once. Masks and flags are boolean; a dataset that a user writes may give them as 0 and 1.

    Args:
        x: The inputs of the network, float `(batch, lead + length, features)`, or a mapping of several by input name. A
            static input is `(batch, values)`.
        slot: The sequence of each row, int `(batch,)`. A dataset counts its own `keys`, and -1 is an empty row. The
            loader turns them into rows of the bank, and 0 is the row for empty rows.
        first: Whether the window is the first of its sequence, bool `(batch,)`. The row then starts from the initial state.
        mask: Which steps hold data, bool `(batch, lead + length)`. `None` means all of them.
        observed: Known values from which an initial state is computed, float `(batch, values)`.
        reset: Steps before which a row returns to its initial state, bool `(batch, lead + length)`.
        keep: How much of the carried state a gap before the window leaves, float `(batch,)` from 0 (nothing) to 1 (all).
        burn_in: Which of the steps before the window exist, bool `(batch, lead)`. They refresh the state. No gradient flows
            from the window into them.
        context: The same, `(batch, lead)`, for steps into which the gradient flows. A batch has at most one of the two.
        last: Whether the window is the last of its sequence, bool `(batch,)`. Present together with `burn_in` or `context`.
        ends: For targets per sequence, the weight of the window in the loss, float `(batch,)`: above 0 at the last window of
            a sequence, else 0. A mapping by output name if the targets have names.
        start: The first step of each window, int `(batch,)`. A dataset that a user writes needs it, because the check of the
            order reads it. The model never sees it.

    Example:

    >>> batch = Batch(x=np.ones((2, 3, 1)), slot=np.array([0, 1]), first=np.array([True, True]))
    >>> sorted(batch.to_keras())
    ['first', 'slot', 'x']
    >>> Batch.from_keras(batch.to_keras()).lead
    0
    """

    x: Any
    slot: Array
    first: Array
    mask: Array | None = None
    observed: Array | None = None
    reset: Array | None = None
    keep: Array | None = None
    burn_in: Array | None = None
    context: Array | None = None
    last: Array | None = None
    ends: Any = None
    start: Array | None = None

    def __post_init__(self) -> None:
        if self.lead and (self.mask is None or self.last is None):
            raise DataError(
                "A batch with `burn_in` or `context` must have `mask` and `last` too. Received: "
                f"mask={self.mask is not None}, last={self.last is not None}. See `docs/windows.md`."
            )

    @property
    def time(self) -> int:
        """The number of steps of the time axis, `lead + length`, as the mask tells; 0 without a mask."""
        return 0 if self.mask is None else int(self.mask.shape[1])

    @property
    def lead(self) -> int:
        """The number of steps before the window, which refresh its state."""
        before = self.burn_in if self.context is None else self.context
        return 0 if before is None else int(before.shape[1])

    def to_keras(self) -> dict[str, Any]:
        """Return the fields that the model needs as a dict, which Keras can carry through `fit`."""
        parts = ((name, getattr(self, name)) for name in _TO_MODEL)
        return {name: part for name, part in parts if part is not None}

    @classmethod
    def from_keras(cls, inputs: Mapping[str, Any]) -> "Batch":
        """Read the dict that `to_keras` made, or the inputs of a dataset that a user wrote."""
        return cls(*map(inputs.get, _NAMES))


class Slots(np.ndarray):
    """The field `slot` as `Windows` hands it out: it knows the windows that number the sequences.

    With these, `train_on_batch` finds the state of each row by key. An array that is computed from it knows no windows.

    Args:
        windows: The dataset, or `None` in a computed array.
        start: The first step of each window, int `(batch,)`.
        steps: The number of steps of each window that are data, int `(batch,)`.
    """

    windows: Any = None
    start: Any = None
    steps: Any = None

    @classmethod
    def of(cls, slot: np.ndarray, windows: Any, start: np.ndarray, steps: np.ndarray) -> "Slots":
        """Return sequence numbers `(batch,)` of `windows`."""
        slots = slot.copy().view(cls)
        slots.windows, slots.start, slots.steps = windows, start, steps
        return slots


class WindowDataset(Protocol):
    """What a model asks of a dataset of windows: `Windows`, or the dataset of a user once it is checked.

    Args:
        keys: The identity of each sequence; the index of a key is its slot in a batch.
        lengths: Steps of each sequence, in the order of the keys.
        order: The name of the order of the windows.
        length: Steps of a window.
        max_length: Steps of the longest window that a batch may hold.
        prefix: Steps before each window, `lead`.
        varies: Whether each batch draws a new number of steps for its windows.
        batch_size: Rows of a batch, or `None` if batches differ.
        targets: `"steps"`, `"windows"`, `"last"` or `"sequence"`, by output name if there are several; `None` if it is not
            known.
        rows: Rows of each batch.
        scales: The factor for the learning rate of each batch, `(batches,)`.
        workers: Loading threads, 0 or 1.
        epoch: The epoch of the batches; the model sets it.
    """

    @property
    def keys(self) -> tuple[Hashable, ...]: ...
    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def order(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def prefix(self) -> int: ...
    @property
    def varies(self) -> bool: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def targets(self) -> str | dict[str, str] | None: ...
    @property
    def rows(self) -> list[int]: ...
    @property
    def scales(self) -> np.ndarray: ...
    @property
    def workers(self) -> int: ...

    epoch: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return the inputs of a batch as `Batch.to_keras` makes them, then targets and weights if there are any."""

    def check_predictable(self) -> None:
        """Raise a `DataError` if outputs could not be sorted into one array for each sequence."""

    def assemble(self, outputs: Any, per_step: Any = True) -> dict[Hashable, Any]:
        """Return the outputs of all batches in time order, one array for each sequence."""


def in_bank(inputs: Mapping[str, Any], slots: np.ndarray) -> dict[str, Any]:
    """Return the dict of a batch for the model: with rows of the bank, and without the fields that the model never sees.

    Args:
        inputs: The dict that `Batch.to_keras` made, or the inputs of a dataset that a user wrote.
        slots: Row of the bank of each sequence, int `(sequences + 1,)`.
    """
    given = {name: part for name, part in inputs.items() if name in _TO_MODEL and part is not None}
    return given | {_SLOT: slots[inputs[_SLOT]]}


def is_batch(inputs: Any) -> bool:
    """Return whether inputs are those of a batch of windows, and not plain inputs of the network."""
    return isinstance(inputs, dict) and _SLOT in inputs


def is_stacked(data: Any) -> bool:
    """Return whether `data` from Keras holds the batches of several steps: in a list, or stacked along a new first axis.

    Keras 3.15 hands a training function one batch at a time. Keras 3.16 on JAX hands over all batches of a call:

        slot of one batch              (batch,)
        slot of the batches of a call  (steps, batch)

    Args:
        data: What the iterator of a training function yields.
    """
    return isinstance(data, list) or (is_batch(data[0]) and len(np.shape(data[0][_SLOT])) > 1)


def missing_names(inputs: Mapping[str, Any]) -> list[str]:
    """Return the names without which the order of windows cannot be checked, as far as `inputs` lack them."""
    return [name for name in (_SLOT, "first") if name not in inputs]


_SLOT = "slot"
_NAMES = tuple(field.name for field in fields(Batch))
_TO_MODEL = tuple(name for name in _NAMES if name != "start")
