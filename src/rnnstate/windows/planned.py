"""A dataset that follows a plan: what `Windows` of arrays and windows of a source have in common."""

import operator
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.windows.batch import Slots
from rnnstate.windows.counts import check_count
from rnnstate.windows.dataset import OrderedDataset
from rnnstate.windows.facts import assemble_batch, gather, share_starts
from rnnstate.windows.finite import check_cut
from rnnstate.windows.gaps import Policy
from rnnstate.windows.lead_in import Prefix
from rnnstate.windows.outputs import assemble
from rnnstate.windows.plan import Index, WindowPlan
from rnnstate.windows.sequences import Sequences


class PlannedWindows(OrderedDataset):
    """The members of `Windows`, once the data are read and the windows are planned.

    A class that derives from this one sets all attributes that are declared here.
    """

    length: int
    batch_size: int
    order: str
    plan: WindowPlan
    scales: NDArray[np.float64]
    _data: Sequences
    _schedule: Any  # a `Schedule`, or what has its members
    _prefix: Prefix
    _policy: Policy
    _masked: bool
    _untold: str | None = None  # the kind of targets where there are none
    whole: Any = None  # where these are the rows of one of several processes: the windows of all

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Identity of each sequence; the index of a key is its slot."""
        return self._data.keys

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each sequence, in the order of `keys`."""
        return self._data.lengths

    @property
    def targets(self) -> str | dict[str, str] | None:
        """How the targets are cut: `"steps"`, `"windows"`, `"last"` or `"sequence"`, by output name if they have names."""
        kinds: Any = {name: field.kind for name, field in self._data.y.items()}
        kind: str | dict[str, str] | None = kinds.get(None, kinds or self._untold)
        return kind

    @property
    def max_length(self) -> int:
        """Steps of a batch's time axis, without the steps before the windows: `length`, or more with `vary`."""
        return self.plan.length

    @property
    def rows(self) -> list[int]:
        """Rows of each batch."""
        return [self.plan.rows] * self.plan.num_batches

    @property
    def batch_bytes(self) -> int:
        """Bytes of the arrays of a batch, without flags and slots."""
        fields = [*self._data.x.values(), *self._data.y.values(), *self._data.weights.values()]
        return sum(field.batch_bytes(self.plan) for field in fields)

    @property
    def varies(self) -> bool:
        """Whether the steps of windows are drawn (`vary`); `scales` has the steps of each batch in relation to `length`."""
        return self._schedule.vary is not None

    @property
    def prefix(self) -> int:
        """How many steps come before each window: `burn_in`, or `back - length`."""
        return self._prefix.steps

    def starts(self) -> dict[str, float]:
        """Return which shares of the windows of the current epoch are carried, reset and fresh.

        A fresh window is the first of its sequence. In a reset window the state returns to its initial state: at a flag of
        `resets`, or after a gap that leaves nothing. Every other window is carried.

        Example:

        >>> windows = Windows({"a": np.ones((9, 1)), "b": np.ones((3, 1))}, length=3, batch_size=2)
        >>> windows.starts()
        {'carried': 0.5, 'reset': 0.0, 'fresh': 0.5}
        """
        return share_starts(self._data, self.plan, self._policy)

    @property
    def epoch(self) -> int:
        """Number of the epoch whose batches these are; set it to get exactly the batches of that epoch."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        epoch = check_count("epoch", value, least=0)
        if self._schedule.changes or not hasattr(self, "plan"):
            self.plan, self.scales = self._schedule.plan(epoch)
        self._epoch = epoch

    def on_epoch_end(self) -> None:
        """Go to the next epoch. Keras calls this method."""
        self.epoch += 1

    def __len__(self) -> int:
        return self.plan.num_batches

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        batch = self._checked(index)
        plan = self.plan
        slot = Slots.of(plan.sequence[batch], self, plan.start[batch].copy(), plan.steps[batch].copy())
        return self._assembled(batch, slot)

    def stacked(self, batches: range) -> tuple[Any, ...]:
        """Return consecutive batches as one, stacked along a new first axis: to make many at once takes less time.

        x of a batch    (batch, time, features)
        x of several    (batches, batch, time, features)
        """
        return self._assembled(batches, self.plan.sequence[batches.start : batches.stop])

    def _assembled(self, index: Index, slot: Any) -> tuple[Any, ...]:
        data, plan = self._data, self.plan
        inputs = assemble_batch(data, plan, index, slot, self._prefix, self._policy, self._masked)
        rest = [gather(fields, plan, index) for fields in (data.y, data.weights) if fields]
        check_cut(data, plan, index, inputs, rest)
        return inputs.to_keras(), *rest

    def _checked(self, index: int) -> int:
        """Return the number of a batch from 0 on."""
        batch = operator.index(index)
        batch += len(self) if batch < 0 else 0
        if not 0 <= batch < len(self):
            raise IndexError(f"Batch index must be below {len(self)}. Received: {index}.")
        return batch

    def __repr__(self) -> str:
        steps, batches = int(self.lengths.sum()), len(self)
        return (
            f"Windows({_count(len(self.keys), 'sequence')}, {_count(steps, 'step')}, "
            f"{_count(batches, 'batch', 'batches')} of {self.batch_size} x {self.length}, order={self.order!r})"
        )

    def check_predictable(self) -> None:
        """Do nothing: the plan of windows holds each step of a sequence once."""

    def assemble(self, outputs: Iterable[Any], per_step: Any = True, epoch: int | None = None) -> dict[Hashable, Any]:
        """Return the outputs of all batches in time order, one array for each sequence, without padding.

        Args:
            outputs: For each batch in turn, an array `(batch, time, ...)` or `(batch, ...)`, or a dict, list or tuple
                of them. A generator is read one batch at a time.
            per_step: Whether an output has a time axis; one answer for all, or one for each in the same structure. A
                number from 2 up says for how many steps an output has one entry.
            epoch: The epoch whose batches these were; by default the current one. Keras goes to the next epoch
                after the last batch.

        Returns:
            For each key an array `(time, ...)`, or `(windows, ...)` where `per_step` is false; in the structure of a
            batch's outputs if there are several.

        Raises:
            DataError: If there are too few or too many batches, or an output does not have the shape of a batch.

        Example:

        >>> windows = Windows({"a": np.ones((5, 1)), "b": np.ones((2, 1))}, length=3, batch_size=2)
        >>> {key: out.shape for key, out in windows.assemble(inputs["x"] for (inputs,) in windows).items()}
        {'a': (5, 1), 'b': (2, 1)}
        """
        plan = self.plan if epoch is None else self._schedule.plan(check_count("epoch", epoch, least=0))[0]
        return assemble(outputs, plan, self.lengths, self.keys, per_step)


def _count(number: int, one: str, many: str = "") -> str:
    # `messages.counted` separates thousands, and code may read this representation.
    return f"{number} {one if number == 1 else many or one + 's'}"
