"""Records as bytes, one value per key, for stores that keep bytes.

    token | count | number | updated | model | leaf | leaf | ... | last |  extra
    ---------------- fixed size, one NumPy record ----------------------  if any

The card of a store gives the names, shapes and dtypes, so that a program without the model can read the values.
"""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rnnstate.streaming.stores.records import MODEL_DTYPE, Card, Extra, Records

_COUNTERS = [("token", "<i8"), ("count", "<i8"), ("number", "<i8"), ("updated", "<f8"), ("model", MODEL_DTYPE)]


class Packing:
    """Turns records of one model into bytes, and bytes into records.

    Args:
        card: The leaves of the model.

    Example:

    >>> packing = Packing(Card("f-w", (("gru/h", (3,), "float32"),)))
    >>> records = Records.of(["a", "b"], packing.card, updated=0.0)
    >>> values = packing.pack(records, np.array([5, 6]))
    >>> packing.unpack(["a", "b"], values)[1].tolist()
    [5, 6]
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        # Leaf names may clash with the names of the counters, so the fields have numbers.
        leaves = [(f"leaf{at}", np.dtype(dtype), shape) for at, (_, shape, dtype) in enumerate(card.leaves)]
        last = [] if card.last is None else [("last", np.dtype("<f4"), card.last)]
        self._dtype = np.dtype([*_COUNTERS, *leaves, *last])

    def pack(self, records: Records, tokens: NDArray[np.int64]) -> list[bytes]:
        """Return the bytes of each record, with its token."""
        rows = np.empty(len(records), self._dtype)
        rows["token"], rows["count"], rows["number"] = tokens, records.count, records.number
        rows["updated"], rows["model"] = records.updated, records.model
        for at, (name, _, _) in enumerate(self.card.leaves):
            rows[f"leaf{at}"] = records.leaves[name]
        if self.card.last is not None:
            rows["last"] = 0.0 if records.last is None else records.last
        size, whole = self._dtype.itemsize, rows.tobytes()
        values = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
        for at, extra in records.extras.items():
            values[at] += _extra_bytes(extra)
        return values

    def unpack(self, keys: Sequence[str], values: Sequence[bytes]) -> tuple[Records, NDArray[np.int64]]:
        """Return the records of some keys, and their tokens."""
        size = self._dtype.itemsize
        rows = np.frombuffer(b"".join(bytes(value[:size]) for value in values), self._dtype)
        records = Records(
            list(keys),
            rows["count"].astype(np.int64),
            rows["number"].astype(np.int64),
            rows["updated"].astype(np.float64),
            rows["model"].copy(),
            {name: rows[f"leaf{at}"].copy() for at, (name, _, _) in enumerate(self.card.leaves)},
            None if self.card.last is None else rows["last"].copy(),
            {at: _read_extra(value[size:]) for at, value in enumerate(values) if len(value) > size},
        )
        return records, rows["token"].astype(np.int64)

    def token(self, value: bytes) -> int:
        """Return the token of a value."""
        return int.from_bytes(value[:8], "little", signed=True)


def _extra_bytes(extra: Extra) -> bytes:
    parts = extra.answer or ()
    head = {
        "answer": None if extra.answer is None else [[part.dtype.str, part.shape] for part in parts],
        "checkpoints": extra.checkpoints,
    }
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "little") + text + b"".join(part.tobytes() for part in parts)


def _read_extra(content: bytes) -> Extra:
    begin = 4 + int.from_bytes(content[:4], "little")
    head = json.loads(bytes(content[4:begin]))
    parts = []
    for dtype, shape in head["answer"] or ():
        count = int(np.prod(shape))
        parts.append(np.frombuffer(content, dtype, count, begin).reshape(shape).copy())
        begin += count * np.dtype(dtype).itemsize
    return Extra(None if head["answer"] is None else tuple(parts), tuple(head["checkpoints"]))
