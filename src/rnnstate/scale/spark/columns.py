"""Columns of Spark: the key as text, its shard, and the schema of a record in the state store."""

from typing import Any

from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from rnnstate.errors import DataError
from rnnstate.messages import quoted
from rnnstate.scale.records import Record
from rnnstate.scale.scorer import Layout
from rnnstate.scale.shards import SHARDS

SHARD, TEXT = "rnnstate_shard", "rnnstate_key"
KEY_SCHEMA = T.StructType([T.StructField("key", T.StringType())])
# The order of the fields is that of `Record`, and the number of shards is written beside them.
RECORD_SCHEMA = T.StructType(
    [
        T.StructField("number", T.LongType()),
        T.StructField("count", T.LongType()),
        T.StructField("time", T.DoubleType()),
        T.StructField("model", T.StringType()),
        T.StructField("leaves", T.BinaryType()),
        T.StructField("starts", T.LongType()),
        T.StructField("repeated", T.LongType()),
        T.StructField("early", T.LongType()),
        T.StructField("shards", T.IntegerType()),
    ]
)


def to_row(record: Record) -> tuple[Any, ...]:
    """Return a record as the state store takes it."""
    fields = (record.number, record.count, record.time, record.model, record.leaves)
    return (*fields, record.starts, record.repeated, record.early, SHARDS)


def to_record(row: Any) -> Record:
    """Return what `to_row` made."""
    number, count, time, model, leaves, starts, repeated, early, _ = row
    return Record(number, count, time, model, bytes(leaves or b""), starts, repeated, early)


def with_shards(frame: Any, key: str) -> Any:
    """Add the text of the key and its shard to a frame. A key that is null has shard 0 and the empty text.

    Raises:
        DataError: If the key is neither text nor a whole number.
    """
    kind = frame.schema[key].dataType
    whole = isinstance(kind, (T.ByteType, T.ShortType, T.IntegerType, T.LongType))
    if not whole and not isinstance(kind, T.StringType):
        raise DataError(f"Column `{key}` must hold text or whole numbers. Received: {kind.simpleString()}.")
    text = F.concat(F.lit("\x01"), F.col(key).cast("string")) if whole else F.col(key)
    frame = frame.withColumn(TEXT, F.coalesce(text, F.lit("")))
    return frame.withColumn(SHARD, F.pmod(F.crc32(F.col(TEXT).cast("binary")), F.lit(SHARDS)).cast("int"))


def check_columns(frame: Any, names: list[str]) -> None:
    """Raise if a frame lacks a column.

    Raises:
        DataError: If one is missing.
    """
    if missing := [name for name in names if name not in frame.columns]:
        raise DataError(f"The frame must have columns {quoted(names, 9)}. Received: none named {quoted(missing, 9)}.")


def result_schema(frame: Any, layout: Layout, between: list[str], after: list[Any]) -> Any:
    """Return the schema of the result: the key and other columns of the frame, the outputs, and further fields."""
    kept = [frame.schema[name] for name in (layout.key, *between)]
    outputs = [T.StructField(name, T.DoubleType()) for name in layout.outputs]
    fields = [T.StructField(field.name, field.dataType) for field in kept]
    names = [field.name for field in (*fields, *outputs, *after)]
    if double := [name for at, name in enumerate(names) if name in names[:at]]:
        raise DataError(f"The columns of the result must differ. Received: {quoted(double)} twice. Rename the column.")
    return T.StructType([*fields, *outputs, *after])
