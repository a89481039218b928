"""From series to the data that a network trains on: split, scaling, horizon and pieces. Pure NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.series import Series, Spans, clip_spans
from rnnstate.windows.by_time import part_bounds
from rnnstate.windows.scaling import Scaling

Array = NDArray[np.float64]
PARTS = ("train", "validation", "test")


def parse_split(text: str) -> tuple[float, float, float]:
    """Read the fractions of `--split`.

    Raises:
        DataError: If they are not three numbers that add up to 1, the first of them above 0.
    """
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        fractions = ()
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise DataError(
            "`--split` must be three fractions that add up to 1, for training, validation and test. "
            f"Received: {text}. Write for example 0.7,0.1,0.2."
        )
    return fractions


def split_bounds(rows: int, split: Sequence[float]) -> dict[str, tuple[int, int]]:
    """Return the first row of each part of a series and the row after its last.

    Example:

    >>> split_bounds(10, (0.7, 0.1, 0.2))
    {'train': (0, 7), 'validation': (7, 8), 'test': (8, 10)}
    """
    return dict(zip(PARTS, part_bounds(rows, split), strict=True))


def measure(series: Sequence[Series], split: Sequence[float]) -> Scaling:
    """Measure the training part of all series.

    Raises:
        DataError: If no complete row lies in it.
    """
    spans = [(one, clip_spans(one.spans, *split_bounds(len(one), split)["train"])) for one in series]
    rows = [one.values[start:stop] for one, clipped in spans for start, stop in clipped]
    if not rows:
        raise DataError(
            "The training part must have complete rows. Received: gaps alone. "
            "Give it a larger share with --split, or more data."
        )
    return Scaling.of(rows)


@dataclass(frozen=True, eq=False)
class Examples:
    """Sequences of inputs and their targets, scaled.

    Args:
        x: One array `(time, inputs)` for each sequence.
        y: One array `(time, targets)` for each sequence: the value `horizon` steps later.
        left_out: Number of rows in sequences that are too short to be used.
    """

    x: list[Array]
    y: list[Array]
    left_out: int = 0

    @property
    def steps(self) -> int:
        """Steps of all sequences together."""
        return sum(len(x) for x in self.x)


def shortest(horizon: int) -> int:
    """Return the fewest rows of a useful sequence: two steps and the targets that they predict."""
    return horizon + 2


def usable_spans(spans: Spans, horizon: int) -> tuple[Spans, int]:
    """Return the spans that are long enough, and how many rows the others have."""
    lengths = spans[:, 1] - spans[:, 0]
    enough = lengths >= shortest(horizon)
    return spans[enough], int(lengths[~enough].sum())


def make_examples(
    series: Sequence[Series], split: Sequence[float], part: str, scaling: Scaling, targets: int, horizon: int
) -> Examples:
    """Cut one part of all series into sequences. No target lies beyond a gap or in another part."""
    x, y, left_out = [], [], 0
    for one in series:
        spans, short = usable_spans(clip_spans(one.spans, *split_bounds(len(one), split)[part]), horizon)
        left_out += short
        for start, stop in spans:
            values = scaling.scale(one.values[start:stop])
            x.append(values[:-horizon])
            y.append(values[horizon:, :targets])
    return Examples(x, y, left_out)


def fill_rows(examples: Examples, window: int, batch_size: int) -> Examples:
    """Cut sequences into contiguous pieces if some rows of a batch would be empty otherwise.

    Rows are empty if there are fewer sequences than rows, or if one sequence is longer than twice the share of a row.
    Pieces are a whole number of windows long, so little is padded. The longest come first, so all rows end at about the
    same time.

    Returns:
        The pieces, or `examples` itself if nothing is cut.
    """
    longest = max(len(x) for x in examples.x)
    share = -(-examples.steps // batch_size)
    size = -(-share // window) * window
    if longest <= size or (len(examples.x) >= batch_size and longest <= 2 * share):
        return examples
    return Examples(_cut(examples.x, size), _cut(examples.y, size), examples.left_out)


def _cut(arrays: Sequence[Array], size: int) -> list[Array]:
    pieces = [array[start : start + size] for array in arrays for start in range(0, len(array), size)]
    return sorted(pieces, key=len, reverse=True)


def persistence(series: Series, targets: int) -> Array:
    """Return the forecast that nothing changes: the value now, `(time, targets)`."""
    return series.values[:, :targets]


def scored_rows(series: Series, low: int, horizon: int) -> NDArray[np.int64]:
    """Return the rows from `low` on whose target is known: it lies in the same span."""
    spans, _ = usable_spans(clip_spans(series.spans, low, len(series)), horizon)
    return np.concatenate([np.arange(start, stop - horizon) for start, stop in spans] or [np.zeros(0, np.int64)])
