"""What Spark calls for each shard of a batch. The state of a shard maps each of its keys to a record."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

from rnnstate.errors import RnnStateError
from rnnstate.scale.events import Rules, absorb, expired
from rnnstate.scale.records import Record
from rnnstate.scale.scorer import Layout, scorer_of
from rnnstate.scale.shards import check_shards
from rnnstate.scale.spark.columns import KEY_SCHEMA, RECORD_SCHEMA, TEXT, to_record, to_row
from rnnstate.streaming.keys import decode, encode

RECORDS = "records"  # the name of the state variable, which `read_states` reads


class ShardProcessor(StatefulProcessor):
    """Scores the events of a shard.

    Spark keeps what the state variable holds and the position in the input in one checkpoint, so a batch that is run again
    starts from the records before it.

    Args:
        layout: The model and its columns.
        rules: How events and records meet.
        number: The column of the event numbers.
        frees: Whether the state of a key that has expired is dropped when the watermark passes.
    """

    def __init__(self, layout: Layout, rules: Rules, number: str, frees: bool) -> None:
        self._layout, self._rules, self._number, self._frees = layout, rules, number, frees

    def init(self, handle: Any) -> None:
        self._handle = handle
        self._records = handle.getMapState(RECORDS, KEY_SCHEMA, RECORD_SCHEMA)

    def handleInputRows(self, key: Any, rows: Iterator[Any], timerValues: Any) -> Iterator[Any]:  # noqa: N802, N803
        import pandas as pd

        frame = pd.concat(list(rows), ignore_index=True)
        texts = frame[TEXT].to_numpy(dtype=object)
        numbers = frame[self._number].fillna(-1).to_numpy(dtype=np.int64)
        usable = {text: _usable(text) for text in set(texts)}
        numbers = np.where([usable[text] for text in texts], numbers, -1)
        records = {text: record for text, fits in usable.items() if fits and (record := self._read(text)) is not None}
        values = frame[list(self._layout.inputs)].to_numpy(dtype=np.float64, na_value=np.nan)
        scorer = scorer_of(self._layout)
        times = None if self._layout.time is None else _seconds(frame[self._layout.time])
        outputs, status, changed = absorb(scorer, self._rules, records, texts.astype(str), numbers, times, values)
        for text, record in changed.items():
            self._records.updateValue((text,), to_row(record))
        self._set_timer(changed, timerValues)
        yield self._result(frame, outputs, status)

    def handleExpiredTimer(self, key: Any, timerValues: Any, expiredTimerInfo: Any) -> Iterator[Any]:  # noqa: N802, N803
        """Drop the states that have expired. Their counters stay, so a repeated event is still detected."""
        now = timerValues.getCurrentWatermarkInMs() / 1000
        records = {text: to_record(row) for (text,), row in self._records.iterator()}
        kept = {}
        for text, record in records.items():
            if expired(self._rules, record, now):
                self._records.updateValue((text,), to_row(replace(record, leaves=b"", count=0)))
            elif record.leaves:
                kept[text] = record
        self._set_timer(kept, timerValues)
        return iter(())

    def handleInitialState(self, key: Any, initialState: Any, timerValues: Any) -> None:  # noqa: N802, N803
        """Put the records of a savepoint into the state, before the first event."""
        for row in initialState.itertuples(index=False):
            check_shards(int(row.shards), "A seed")
            time = None if row.time is None or np.isnan(row.time) else float(row.time)
            record = Record(int(row.number), int(row.count), time, row.model, bytes(row.leaves))
            self._records.updateValue((getattr(row, TEXT),), to_row(record))

    def _read(self, text: str) -> Record | None:
        row = self._records.getValue((text,))
        if row is None:
            return None
        check_shards(row[-1], f"The record of key {text!r}")
        return to_record(row)

    def _set_timer(self, records: dict[str, Record], timers: Any) -> None:
        """Wake up when the first of some records can have expired, unless the shard wakes up earlier."""
        times = [record.time for record in records.values() if record.leaves and record.time is not None]
        if not self._frees or not times or self._rules.expire_after is None:
            return
        now = timers.getCurrentWatermarkInMs()
        if not any(timer > now for timer in self._handle.listTimers()):  # the timer that goes off is still listed
            due = int(1000 * (min(times) + self._rules.expire_after)) + 1
            self._handle.registerTimer(max(due, now + 1))

    def _result(self, frame: Any, outputs: Any, status: Any) -> Any:
        names = [self._layout.key, self._number, *([] if self._layout.time is None else [self._layout.time])]
        # A column of text that came in several frames is an array of several chunks, which Spark cannot send back.
        result = frame[names].astype({name: object for name in names if frame[name].dtype.kind not in "Miufb"})
        for name, column in zip(self._layout.outputs, outputs.T, strict=True):
            result[name] = column
        return result.assign(status=status.astype(object))


def _usable(text: str) -> bool:
    """Return whether `encode` could have made a text."""
    try:
        encode(decode(text))
    except (RnnStateError, ValueError):
        return False
    return True


def _seconds(column: Any) -> Any:
    """Return times as seconds since 1970, NaN where one is missing."""
    if column.dtype.kind == "M":
        missing = column.isna().to_numpy()
        return np.where(missing, np.nan, column.to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
