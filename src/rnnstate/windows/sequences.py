"""The canonical form of a dataset's data: keys, and for each field one array per sequence.

`inputs.py` reads everything that the user gave into this form, once. All code after that works on this form. The arrays
are the user's own arrays or views of them; a memory-mapped array stays memory-mapped.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rnnstate.windows.arrays import Array, Field
from rnnstate.windows.cuts import Cuts
from rnnstate.windows.observed import KnownValues

Fields = dict[str | None, Field]
MissingSteps = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Sequences:
    """The checked data of a dataset. `None` stands for data that the user did not give.

    Args:
        keys: Identity of each sequence.
        lengths: Number of steps of each sequence; `(sequences,)`.
        x: Inputs by name. The name is `None` if there is one input without a name.
        y: Targets by name, in the same way; empty without targets.
        weights: Sample weights by name, in the same way; empty without weights.
        observed: Known values from which the state before a window is computed.
        resets: Flags `(time,)` for each sequence: the state returns to its initial state before a flagged step.
        missing: How many steps are missing before each step, `(time,)` for each sequence.
    """

    keys: tuple[Hashable, ...]
    lengths: NDArray[np.int64]
    x: Fields
    y: Fields
    weights: Fields
    observed: KnownValues | None = None
    resets: Field | None = None
    missing: MissingSteps | None = None

    def cuts(self) -> Cuts | None:
        """Return the steps at which a window must begin, for each sequence; `None` if there are no such steps.

        A window must begin after a gap. If the initial state comes from a series of known values, a window must also
        begin at each reset, because a batch has one row of known values for each window.
        """
        marks: list[Sequence[Array] | Array] = [] if self.missing is None else [self.missing]
        if self.resets is not None and self.observed is not None and self.observed.series:
            marks.append(self.resets.arrays)
        if not marks:
            return None
        # `marked` holds the arrays of one sequence; a step is a cut if any of them is above 0 there.
        cuts = (
            np.flatnonzero(np.logical_or.reduce([array > 0 for array in marked])) for marked in zip(*marks, strict=True)
        )
        return [steps[steps > 0] for steps in cuts]

    def pieces(self, bounds: NDArray[np.int64], length: int) -> "Sequences":
        """Return the pieces of each sequence as sequences with the keys `(key, piece)`.

        Args:
            bounds: Bounds of the pieces, `(sequences, pieces + 1)`, as `cut_pieces` returns them.
            length: Steps of a window.
        """
        x, y, weights = (
            {name: field.pieces(bounds, length) for name, field in fields.items()}
            for fields in (self.x, self.y, self.weights)
        )
        return Sequences(
            keys=tuple((key, piece) for key in self.keys for piece in range(bounds.shape[1] - 1)),
            lengths=np.diff(bounds, axis=1).ravel(),
            x=x,
            y=y,
            weights=weights,
            observed=None if self.observed is None else self.observed.pieces(bounds),
            resets=None if self.resets is None else self.resets.pieces(bounds, length),
            missing=None if self.missing is None else _cut(self.missing, bounds),
        )


def _cut(arrays: MissingSteps, bounds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    cuts = zip(arrays, bounds.tolist(), strict=True)
    return [array[a:b] for array, bound in cuts for a, b in pairwise(bound)]
