"""`score_stream`: a streaming frame of numbered events, scored with a state for each key."""

import os
from collections.abc import Sequence
from typing import Any

from pyspark.sql import types as T  # noqa: N812

from rnnstate.errors import DataError
from rnnstate.scale.events import Rules
from rnnstate.scale.scorer import layout_of
from rnnstate.scale.spark.columns import SHARD, check_columns, result_schema, with_shards
from rnnstate.scale.spark.processor import ShardProcessor

_PROVIDER = "spark.sql.streaming.stateStore.providerClass"
_ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def score_stream(
    frame: Any,
    model: str | os.PathLike[str],
    number: str = "number",
    *,
    key: str | None = None,
    time: str | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    seeds: Any = None,
    first: int | None = 0,
    expire_after: float | None = None,
    free_expired: bool = False,
    on_other_model: str = "refuse",
) -> Any:
    """Score the events of a stream. Each key has a state, which Spark keeps in RocksDB and in its checkpoint.

    An event advances the state of its key only if its number follows the last one. Every event has a row in the result.
    Its `status` says what became of it: `scored`, `started` (scored from the initial state), `gap` (an input is missing, and
    the next event starts from the initial state), `repeated`, `early` (an event before it is missing) or `invalid` (no key,
    or no number). The last three change no state, and the records count `repeated` and `early` events.

    The state is exact once over a restart from the checkpoint. A batch that Spark runs again gives the same rows again, so
    a sink without transactions may hold them twice.

    Args:
        frame: A streaming frame. A frame that does not stream works too, with states that begin and end with the query.
        model: A RUN or an ONNX file that `rnnstate.export` wrote. Every worker must be able to read the path.
        number: The column of whole numbers that count up by one for each event of a key.
        key: The column of keys, text or whole numbers. A RUN knows it.
        time: The column of event times, timestamps or numbers of seconds. A RUN knows it.
        inputs: The columns that an ONNX file reads, in the order of its features. A RUN knows them.
        outputs: Names for the outputs of an ONNX file.
        seeds: States that keys start from in a new checkpoint, from `seed_states`.
        first: The number of the first event of a key; `None` takes any.
        expire_after: After how many seconds of event time between two events of a key its state starts again.
        free_expired: Whether to drop the leaves of expired states, which needs a watermark on the time column. Spark then
            drops events that are later than the watermark, before they are counted here.
        on_other_model: What to do with the record of another model: `"refuse"` ends the query, `"migrate"` keeps states of
            the same fingerprint, `"restart"` starts again.

    Returns:
        A frame with the key, the number, the time, a column for each output, and `status`.

    Raises:
        DataError: If a column is missing, or an argument has a value that it cannot have.
        UnsupportedModelError: In the workers, if the model cannot be scored row by row.
        SpecMismatchError: In the workers, if a record is of another model. The checkpoint stays as it is.
    """
    layout, rules = layout_of(model, key, time, inputs, outputs), Rules(first, expire_after, on_other_model)
    times = [] if layout.time is None else [layout.time]
    check_columns(frame, [layout.key, number, *times, *layout.inputs])
    if (expire_after is not None and not times) or (free_expired and expire_after is None):
        raise DataError(
            "States expire by event time, so `expire_after` needs a time column, and `free_expired` needs `expire_after`. "
            f"Received: time={layout.time!r}, expire_after={expire_after!r}."
        )
    frame.sparkSession.conf.set(_PROVIDER, _ROCKSDB)
    schema = result_schema(frame, layout, [number, *times], [T.StructField("status", T.StringType())])
    chosen = list(dict.fromkeys([layout.key, number, *times, *layout.inputs]))
    sharded = with_shards(frame.select(*chosen), layout.key)
    processor = ShardProcessor(layout, rules, number, free_expired)
    mode = "EventTime" if free_expired else "None"
    initial = None if seeds is None else seeds.groupBy(SHARD)
    return sharded.groupBy(SHARD).transformWithStateInPandas(processor, schema, "Append", mode, initial)
