"""The steps of a sequence that are held in memory at present. They are read as if the whole array were there."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.windows.arrays import Array


class Held:
    """One array of a sequence, `(time, ...)`, of which a few steps are in memory.

    Steps come in pieces that never reach across the end of a window. Dropping the steps of a window then frees their
    memory, because no piece holds steps of two windows.

    Args:
        steps: Steps of the whole sequence.
        entry_shape: Shape of one step.
        dtype: Dtype of the source, which decides the dtype of the batches.
        kept: Dtype in which the steps are held.
        length: Steps of a window.
        cuts: The rising steps above 0 at which a window must begin.

    Example:

    >>> held = Held(5, (), np.dtype("float64"), "float32", length=2)
    >>> held.append(np.arange(3.0))
    >>> held.drop(2)
    >>> held.append(np.arange(3.0, 5.0))
    >>> held[2:5].tolist(), held.held
    ([2.0, 3.0, 4.0], 3)
    """

    def __init__(
        self,
        steps: int,
        entry_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        kept: str,
        length: int,
        cuts: NDArray[np.int64] | None = None,
    ) -> None:
        self.shape, self.ndim, self.dtype = (steps, *entry_shape), 1 + len(entry_shape), dtype
        self._kept, self._length = kept, length
        self._cuts = np.zeros(0, np.int64) if cuts is None else cuts
        self._pieces: deque[tuple[int, Array]] = deque()  # (first step, values)
        self._end = 0

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def held(self) -> int:
        """How many steps are in memory."""
        return sum(len(values) for _, values in self._pieces)

    def append(self, values: Array) -> None:
        """Hold a copy of the next steps. A source may use one array for all of its chunks."""
        while len(values):
            room = self._room()
            self._pieces.append((self._end, np.array(values[:room], dtype=self._kept)))
            self._end += len(values[:room])
            values = values[room:]

    def _room(self) -> int:
        """Return how many steps of the present window have not come."""
        passed = int(np.searchsorted(self._cuts, self._end, side="right"))
        begin = int(self._cuts[passed - 1]) if passed else 0
        room = self._length - (self._end - begin) % self._length
        return min(room, int(self._cuts[passed]) - self._end) if passed < len(self._cuts) else room

    def drop(self, before: int) -> None:
        """Let go of the pieces that end at the step `before` or earlier."""
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= before:
            self._pieces.popleft()

    def clear(self) -> None:
        """Begin again before the first step."""
        self._pieces.clear()
        self._end = 0

    def __getitem__(self, index: Any) -> Array:
        begin, end = (index.start, index.stop) if isinstance(index, slice) else (index, index + 1)
        parts = [
            values[max(begin - first, 0) : max(end - first, 0)]
            for first, values in self._pieces
            if first < end and first + len(values) > begin
        ]
        found = np.concatenate(parts) if parts else np.zeros((0, *self.shape[1:]), self._kept)
        return found if isinstance(index, slice) else found[0]
