"""Where a loop of one's own over batches stands: the window of each sequence that its state belongs to."""

import weakref
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.windows.batch import Slots

Key = Hashable


class Progress:
    """For each key, the dataset and the step at which the next window begins.

    A batch alone does not show whether the windows before it have been run. Without this check,
    `train_on_batch(*windows[3])` would start from the state of another time.
    """

    def __init__(self) -> None:
        self._next: dict[Key, int] = {}
        self._windows: dict[Key, Any] = {}
        self.slots: dict[Key, int] = {}  # rows of the inference bank; those of the training bank are in `States`
        self._checked: dict[bool, Any] = {}

    def forget(self) -> None:
        """Forget all keys: another call has used their rows."""
        self._next.clear()
        self._windows.clear()
        self.slots.clear()

    def is_new(self, windows: Any, targets: bool) -> bool:
        """Return whether `windows` are others than at the last call with or without targets, and remember them."""
        known = self._checked.get(targets)
        self._checked[targets] = weakref.ref(windows)
        return known is None or known() is not windows

    def check(self, method: str, slot: Slots, given: Callable[[Key], bool]) -> None:
        """Raise a `DataError` unless each row begins its sequence or goes on where this loop has left it.

        Args:
            method: The name of the method, for the message.
            slot: The sequences of the rows.
            given: Whether the user has given the state of a key, which then counts for any window.
        """
        for key, start, _ in rows_of(slot):
            known = self._next.get(key) if self._dataset(key) is slot.windows else None
            if start and known != start and not given(key):
                stands = "the loop has not begun it" if known is None else f"its state is that before step {known}"
                raise DataError(
                    f"`{method}` must get the windows of a sequence in time order. Received: the window from step {start} "
                    f"of sequence {key!r}, where {stands}. Run all batches in order, from `windows[0]` on, each once, or "
                    "give the state: `step` takes one, and `model.states.write` sets that of training."
                )

    def advance(self, slot: Slots) -> None:
        """Remember that the windows of a batch have been run."""
        for key, start, steps in rows_of(slot):
            self._next[key] = start + steps
            self._windows[key] = weakref.ref(slot.windows)

    def _dataset(self, key: Key) -> Any:
        found = self._windows.get(key)
        return None if found is None else found()


def rows_of(slot: Slots) -> list[tuple[Key, int, int]]:
    """Return key, first step and number of steps of each row that holds a window."""
    keys = slot.windows.keys
    rows = zip(np.asarray(slot).tolist(), slot.start.tolist(), slot.steps.tolist(), strict=True)
    return [(keys[sequence], start, steps) for sequence, start, steps in rows if sequence >= 0]
