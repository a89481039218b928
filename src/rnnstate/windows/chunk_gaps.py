"""The steps that are missing in a source: before each step of a chunk, and between one chunk of a sequence and the next."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array
from rnnstate.windows.gaps import check_steps, read_step, skipped_steps, times_array, whole
from rnnstate.windows.times import are_dates, differences, find_step_back, in_sequence, missing_times, order_error

TIMINGS = ("times", "gaps")


class Gaps(dict[int, int]):
    """How many steps are missing before a step of one sequence. Only steps with a gap before them take memory.

    Example:

    >>> gaps = Gaps({7: 2})
    >>> gaps[7], gaps[8], len(gaps)
    (2, 0, 1)
    """

    def __missing__(self, step: int) -> int:
        return 0


class Clock:
    """Counts missing steps in one pass over a source. It remembers the latest time of each sequence.

    Args:
        step: The usual step of `times`. `gaps` are numbers of steps already.
    """

    def __init__(self, step: Any) -> None:
        self._step = step
        self._latest: dict[Hashable, Array] = {}  # the time of the latest step, (1,)

    def missing(self, given: Mapping[str, Any], key: Hashable, begin: int, steps: int) -> NDArray[np.int64] | None:
        """Return how many steps are missing before each step of a chunk, `(steps,)`; `None` if the chunk does not tell.

        Args:
            given: The parts of the chunk by name.
            key: The key of its sequence.
            begin: Its first step in the sequence.
            steps: How many steps it has.

        Raises:
            DataError: If times do not increase, or a number of missing steps is not a whole number of at least 0.
        """
        if given.get("gaps") is not None:
            gaps = np.asarray(given["gaps"])
            check_steps([gaps], np.array([steps]), [key], "gaps")
            return whole(gaps, key, begin=begin)
        if given.get("times") is None:
            return None
        times = times_array(given["times"], "times", key)
        check_steps([times], np.array([steps]), [key], "times")
        if not steps:
            return np.zeros(0, np.int64)
        known = self._latest.get(key, times[:0])
        shown = np.concatenate([known, times])
        _check_order(shown, key, begin - len(known))
        self._latest[key] = times[-1:].copy()
        found = np.zeros(steps, np.int64)
        if len(shown) > 1:
            found[1 - len(known) :] = skipped_steps(differences(shown), read_step(self._step, are_dates(shown)))
        return found


def check_timing(names: list[str], step: Any, gap: Any) -> None:
    """Raise a `DataError` unless the arguments `step` and `gap` fit what the chunks tell about time.

    Args:
        names: Which of `times` and `gaps` the chunks have.
        step: The argument `step`.
        gap: The argument `gap`.
    """
    if len(names) > 1:
        raise DataError("`times` or `gaps` must say where steps are missing, not both. Received: chunks with both.")
    if "times" in names and step is None:
        raise DataError(
            "A source with `times` needs `step`, their usual difference, because the median is known at the end alone. "
            "Received: no `step`. Pass `step=1.0`, or for dates `step=datetime.timedelta(minutes=15)`."
        )
    if "times" not in names and step is not None:
        raise DataError(f"`step` is the usual step of `times`. Received: step={step!r}, and chunks without `times`.")
    if not names and gap is not None:
        raise DataError(
            f"`gap` says what missing steps do to the state. Received: gap={gap!r}, and chunks without `times` or `gaps`. "
            'Yield chunks such as `{"key": key, "x": x, "y": y, "times": times}`.'
        )


def _check_order(times: Array, key: Hashable, begin: int) -> None:
    gone = np.flatnonzero(missing_times(times))
    if len(gone):
        raise DataError(
            f"`times` must have a time at each step. Received: none {in_sequence(key, begin + int(gone[0]))}."
        )
    back = find_step_back(times, np.array([0, len(times)]))
    if back is not None:
        raise order_error("`times`", times[back.before], times[back.now], in_sequence(key, begin + back.now))
