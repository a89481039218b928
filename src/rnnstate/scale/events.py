"""Numbered events of many keys: which of them advance a state, which are reported, and the states afterwards. Pure NumPy.

Events of a key have numbers that count up by one. Each event gets a status:

    scored     the state advanced
    started    the state advanced, from the initial state
    gap        an input is missing: no output, and the next event starts from the initial state
    repeated   the number was absorbed before: nothing changed
    early      an event before it is missing: nothing changed
    invalid    the key or the number cannot be used: nothing changed

Within a batch the events of a key are sorted by number, because engines shuffle them. Between batches nothing waits: an
event that comes before its predecessor is refused, and its source sends it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError, StateValueError
from rnnstate.scale.records import POLICIES, LeafBytes, Record, of_model
from rnnstate.scale.scorer import Array, Leaves, Scorer

STATUSES = ("scored", "started", "gap", "repeated", "early", "invalid")


@dataclass(frozen=True)
class Rules:
    """How events and records meet.

    Args:
        first: The number of the first event of a key, or `None` for any.
        expire_after: After how many seconds of event time without an event a state starts again, or `None`.
        on_other_model: What to do with a record of another model: `"refuse"`, `"migrate"` or `"restart"`.

    Raises:
        DataError: If a value is none of these.
    """

    first: int | None = 0
    expire_after: float | None = None
    on_other_model: str = "refuse"

    def __post_init__(self) -> None:
        if self.on_other_model not in POLICIES:
            raise DataError(f"`on_other_model` must be one of {POLICIES}. Received: {self.on_other_model!r}.")
        if self.first is not None and (not isinstance(self.first, int) or self.first < 0):
            raise DataError(f"`first` must be a whole number from 0 on, or None for any. Received: {self.first!r}.")
        if self.expire_after is not None and not 0 < self.expire_after < float("inf"):
            raise DataError(f"`expire_after` must be above 0 seconds. Received: {self.expire_after!r}.")


@dataclass
class _Lane:
    """The events of one key that advance its state, cut where the state starts again."""

    key: str
    record: Record
    rows: NDArray[np.int64]
    parts: list[NDArray[np.int64]]  # rows of each stretch without a restart
    carried: bool  # whether the first part goes on from the record
    open: bool  # whether the state after the last part is kept


def absorb(
    scorer: Scorer,
    rules: Rules,
    records: Mapping[str, Record],
    keys: NDArray[Any],
    numbers: NDArray[np.int64],
    times: Array | None,
    values: Array,
) -> tuple[Array, NDArray[Any], dict[str, Record]]:
    """Advance the states of some keys by their events.

    Args:
        scorer: The model.
        rules: How events and records meet.
        records: The records of these keys. A key without a record is new.
        keys: The key of each event, as text, `(n,)`.
        numbers: The number of each event, `(n,)`.
        times: The time of each event in seconds, `(n,)`, or `None`.
        values: The inputs of each event, `(n, inputs)`, NaN where one is missing.

    Returns:
        The outputs `(n, outputs)`, NaN where there is none; the status of each event `(n,)`; and the records that changed.

    Raises:
        SpecMismatchError: If a record is of another model, and the rules do not allow it.
        StateValueError: If a state would not be finite.
    """
    with np.errstate(over="ignore"):
        values = np.where(np.isfinite(values.astype(np.float32)), values, np.nan)
    status = np.full(len(keys), "invalid", "<U8")
    lanes, changed = [], {}
    for key, rows in _by_key(keys, numbers):
        record = of_model(records.get(key, Record()), scorer.card, key, rules.on_other_model)
        taken, record = _in_order(rules, record, rows, numbers, status)
        changed[key] = record
        if len(taken):
            lanes.append(_lane(rules, key, record, taken, times, values, status))
    outputs = np.full((len(keys), len(scorer.layout.outputs)), np.nan)
    for lane, leaves in zip(lanes, _run(scorer, lanes, values, outputs), strict=True):
        changed[lane.key] = _after(lane, leaves, numbers, times, status)
    return outputs, status, changed


def expired(rules: Rules, record: Record, now: float) -> bool:
    """Return whether a record with a state has had no event for too long, at an event time in seconds."""
    return (
        rules.expire_after is not None
        and record.time is not None
        and bool(record.leaves)
        and now - record.time > rules.expire_after
    )


def _by_key(keys: NDArray[Any], numbers: NDArray[np.int64]) -> list[tuple[str, NDArray[np.int64]]]:
    """Return each key with the rows of its events, sorted by number. Events with a number below 0 are left out."""
    order = np.lexsort((numbers, keys))
    order = order[numbers[order] >= 0]
    ordered = keys[order]
    groups = np.split(order, np.flatnonzero(_differs(ordered))[1:]) if len(order) else []
    return [(str(keys[rows[0]]), rows) for rows in groups]


def _differs(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values differ from the value before them. The first one does."""
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return new


def _in_order(
    rules: Rules, record: Record, rows: NDArray[np.int64], numbers: NDArray[np.int64], status: NDArray[Any]
) -> tuple[NDArray[np.int64], Record]:
    """Return the rows that follow the record, one after another. Mark and count the others."""
    given = numbers[rows]
    expected = record.next if record.known else (int(given[0]) if rules.first is None else rules.first)
    fresh = (given >= expected) & _differs(given)
    ahead = given[fresh] - expected
    follows: NDArray[np.bool_] = np.equal(
        ahead, np.arange(len(ahead))
    )  # sorted and distinct, so it holds up to the first hole
    status[rows[~fresh]] = "repeated"
    status[rows[fresh][~follows]] = "early"
    # A repeated number of an event that is early is early too.
    late = ~fresh & (given >= expected + int(follows.sum()))
    status[rows[late]] = "early"
    early = int((~follows).sum() + late.sum())
    counted = replace(record, repeated=record.repeated + int((~fresh).sum() - late.sum()), early=record.early + early)
    return rows[fresh][follows], counted


def _lane(
    rules: Rules,
    key: str,
    record: Record,
    rows: NDArray[np.int64],
    times: Array | None,
    values: Array,
    status: NDArray[Any],
) -> _Lane:
    """Cut the events of a key where its state starts again: after a gap, and after too long a time."""
    complete = np.asarray(np.isfinite(values[rows]).all(axis=1))
    pause = np.zeros(len(rows), np.bool_)
    if times is not None and rules.expire_after is not None:
        before = np.r_[np.nan if record.time is None else record.time, times[rows][:-1]]
        before = np.fmax.accumulate(before)
        pause = np.nan_to_num(times[rows] - before) > rules.expire_after
    carried = bool(record.leaves) and bool(complete[0]) and not pause[0]
    starts = complete & (pause | ~np.r_[carried, complete[:-1]])
    status[rows] = np.where(starts, "started", np.where(complete, "scored", "gap"))
    parts = [part[np.isfinite(values[part]).all(axis=1)] for part in np.split(rows, np.flatnonzero(starts | ~complete))]
    return _Lane(key, record, rows, [part for part in parts if len(part)], carried, bool(complete[-1]))


def _run(scorer: Scorer, lanes: Sequence[_Lane], values: Array, outputs: Array) -> list[bytes]:
    """Run all parts of all lanes, and return the state after the last part of each lane.

    The first parts of all lanes run together, then their second parts, and so on.
    """
    codec = LeafBytes(scorer.card)
    finals = [lane.record.leaves for lane in lanes]
    for turn in range(max((len(lane.parts) for lane in lanes), default=0)):
        going = [at for at, lane in enumerate(lanes) if turn < len(lane.parts)]
        leaves = _starts(scorer, codec, [lanes[at] for at in going], first=turn == 0)
        series = [values[lanes[at].parts[turn]] for at in going]
        for at, y in zip(going, scorer.advance(series, leaves), strict=True):
            outputs[lanes[at].parts[turn]] = y
        _check_finite(leaves, [lanes[at].key for at in going])
        for at, final in zip(going, codec.pack(leaves), strict=True):
            finals[at] = final
    return finals


def _starts(scorer: Scorer, codec: LeafBytes, lanes: Sequence[_Lane], first: bool) -> Leaves:
    """Return the states that parts start from: those of the records, or the initial state."""
    leaves = scorer.initial(len(lanes))
    going = [at for at, lane in enumerate(lanes) if first and lane.carried]
    if going:
        for name, kept in codec.unpack([lanes[at].record.leaves for at in going]).items():
            leaves[name][going] = kept
    return leaves


def _check_finite(leaves: Leaves, keys: Sequence[str]) -> None:
    for name, leaf in leaves.items():
        wrong = ~np.isfinite(leaf).reshape(len(keys), -1).all(axis=1)
        if leaf.dtype.kind == "f" and wrong.any():
            raise StateValueError(
                f"Key {keys[int(wrong.argmax())]!r}: the next state must be finite. Received: leaf `{name}` with a value "
                "that is not. No record of the batch has changed. Look at the inputs and the weights."
            )


def _after(lane: _Lane, leaves: bytes, numbers: NDArray[np.int64], times: Array | None, status: NDArray[Any]) -> Record:
    """Return the record of a key after its events."""
    record, rows = lane.record, lane.rows
    marks = status[rows]
    starts = np.flatnonzero(marks == "started")
    count = len(rows) - int(starts[-1]) if len(starts) else record.count + len(rows)
    seen = [] if times is None else [record.time if record.time is not None else np.nan, *times[rows]]
    known = [float(time) for time in seen if np.isfinite(time)]
    return replace(
        record,
        number=int(numbers[rows[-1]]),
        count=count if lane.open else 0,
        time=max(known, default=None),
        leaves=leaves if lane.open else b"",
        starts=record.starts + len(starts),
    )
