"""Where each key stands: the last time of its data, the state there, and whether other data continue from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.ahead import Outlook
from rnnstate.forecasting.series import Series
from rnnstate.forecasting.times import Kind, read_tick, show_step, show_tick
from rnnstate.state.state import State, concat
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
        until: Time of its last row, complete or not, as text.
    """

    key: str
    time: str | None
    step: float | None
    open: bool
    until: str | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """Where each key stands: its place in the data, and the state there.

    Args:
        places: One for each key.
        state: One row for each key.
        outlook: What is known about the steps that follow. RUNs of release 0.1.0 do not know it.
        kind: Whether times are dates or numbers.
        zoned: Whether dates name their time zone.
    """

    places: tuple[Place, ...]
    state: State
    outlook: Outlook | None = None
    kind: Kind | None = None
    zoned: bool = False

    @property
    def index(self) -> dict[str, int]:
        """Row of each key."""
        return {place.key: row for row, place in enumerate(self.places)}

    @property
    def steps(self) -> dict[str, float | None]:
        """Usual step of each key."""
        return {place.key: place.step for place in self.places}


def merged(old: Standing, new: Standing) -> Standing:
    """Return where each key stands after new data.

    Keys without new data stay where they stand. Keys without a complete new row keep their state, for a forecast. Their
    next data start from the initial state, because a gap lies between.

    Args:
        old: Where the keys stood, with an outlook.
        new: Where the new data end, with an outlook.
    """
    if old.outlook is None or new.outlook is None:
        raise DataError("Both must know what is ahead. Received: a standing without an outlook.")
    empty = [bool(np.isnan(inputs).all()) for inputs in new.outlook.inputs]
    index = new.index
    stay = [row for row, place in enumerate(old.places) if place.key not in index or empty[index[place.key]]]
    kept = [
        _paused(old.places[row], new.places[index[key]] if (key := old.places[row].key) in index else None)
        for row in stay
    ]
    known = {place.key for place in kept}
    come = [row for row, place in enumerate(new.places) if place.key not in known]
    places = (*kept, *(new.places[row] for row in come))
    state = concat([old.state.rows(stay), new.state.rows(come)]).numpy()
    return Standing(places, state, old.outlook.rows(stay).joined(new.outlook.rows(come)), new.kind, new.zoned)


def _paused(place: Place, after: Place | None) -> Place:
    return place if after is None else replace(place, open=False, until=after.until or place.until)


def check_later(series: Sequence[Series], standing: Standing) -> None:
    """Refuse data that overlap the kept data, or come before them.

    Raises:
        DataError: If a key has a row at or before the time of its last kept row, or there is no time column.
    """
    index = standing.index
    early = []
    for one in series:
        place = standing.places[index[one.key]] if one.key in index else None
        until = None if place is None else place.until or place.time
        if until is None or one.ticks is None or np.isnan(one.ticks).all():
            continue
        begin = float(np.nanmin(one.ticks))
        if begin <= read_tick(until, one.kind):
            name = f"key {one.key!r}" if one.key else "rows"
            early.append(f"{name} from {show_tick(begin, one.kind)} on, while the kept data end at {until}")
    if early:
        more = f" ({len(early)} keys in all)" if len(early) > 1 else ""
        raise DataError(
            f"`--update` takes data that come after the kept data. Received: {early[0]}{more}. "
            "Leave out the rows that RUN has seen, or leave out --update."
        )


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
    _check_kind(series, standing)
    kept = {bare_key(key): key for key in index}
    rows, reasons = [], {}
    for one in series:
        row = index.get(one.key, -1)
        reason = _why_unknown(kept.get(bare_key(one.key))) if row < 0 else _why_fresh(one, standing.places[row], always)
        rows.append(-1 if reason else row)
        if reason:
            reasons[one.key] = reason
    return Starts(np.array(rows, dtype=np.int64), standing.state, reasons)


def _check_kind(series: Sequence[Series], standing: Standing) -> None:
    """Refuse numbers where the kept times are dates, and dates where they are numbers."""
    kept = next((place.time for place in standing.places if place.time is not None), None)
    found = next((one for one in series if one.ticks is not None), None)
    if kept is None or found is None:
        return
    try:
        read_tick(kept, found.kind)
    except ValueError:
        expected, received = ("dates", "numbers") if found.kind == "number" else ("numbers", "dates")
        raise DataError(
            f"The times of DATA must be {expected}, because the times in RUN are: its data end at {kept}. "
            f"Received: {received}."
        ) from None


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
