"""Where each key stands: the last time of its data, the state there, and whether other data continue from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.forecasting.series import Series
from rnnstate.forecasting.times import read_tick, show_step, show_tick
from rnnstate.state.state import State
from rnnstate.windows.gaps import follows
from rnnstate.windows.keys import bare_key


@dataclass(frozen=True)
class Place:
    """How far the data of one key went.

    Args:
        key: Its name.
        time: Time of its last complete row, as text, if there is a time column.
        step: Usual step of its times, if they are regular.
        open: Whether its last row was complete. If so, the next row continues.
    """

    key: str
    time: str | None
    step: float | None
    open: bool


@dataclass(frozen=True, eq=False)
class Standing:
    """Where each key stands: its place in the data, and the state there.

    Args:
        places: One for each key.
        state: One row for each key.
    """

    places: tuple[Place, ...]
    state: State

    @property
    def index(self) -> dict[str, int]:
        """Row of each key."""
        return {place.key: row for row, place in enumerate(self.places)}

    @property
    def steps(self) -> dict[str, float | None]:
        """Usual step of each key."""
        return {place.key: place.step for place in self.places}


@dataclass(frozen=True, eq=False)
class Starts:
    """Where the series of new data start.

    Args:
        rows: For each series its row in `state`, or -1 if it starts fresh.
        state: The kept states, one row for each key.
        reasons: Why series start fresh, by key.
    """

    rows: NDArray[np.int64]
    state: Mapping[str, Any]
    reasons: Mapping[str, str]

    @property
    def continued(self) -> int:
        """How many series continue."""
        return int((self.rows >= 0).sum())


def find_starts(series: Sequence[Series], standing: Standing, always: bool = False) -> Starts:
    """Decide for each key whether its data continue where it stands.

    Args:
        series: The new data.
        standing: Where each key stands.
        always: Whether data without times continue from the kept states.
    """
    index = standing.index
    kept = {bare_key(key): key for key in index}
    rows, reasons = [], {}
    for one in series:
        row = index.get(one.key, -1)
        reason = _why_unknown(kept.get(bare_key(one.key))) if row < 0 else _why_fresh(one, standing.places[row], always)
        rows.append(-1 if reason else row)
        if reason:
            reasons[one.key] = reason
    return Starts(np.array(rows, dtype=np.int64), standing.state, reasons)


def _why_unknown(similar: str | None) -> str:
    if similar is None:
        return "no state is kept for it"
    return f"no state is kept for it, but for {similar!r}, which differs by white space"


def _why_fresh(series: Series, place: Place, always: bool) -> str | None:
    """Return why a series does not continue from its kept place, or `None` if it does."""
    if not len(series.spans):
        return "it has no complete row"
    if not place.open:
        return "the kept data end in a gap"
    first = int(series.spans[0, 0])
    if series.ticks is None or place.time is None:
        if not always:
            return "there is no time column to tell; use --continue if the rows follow the kept ones"
        return "it begins with a gap" if first else None
    begin = float(series.ticks[first])
    last = read_tick(place.time, series.kind)
    if follows(begin - last, place.step):
        return None
    step = "" if place.step is None else f", the usual step is {show_step(place.step, series.kind)}"
    return f"it begins at {show_tick(begin, series.kind)}, the kept data end at {place.time}{step}"
