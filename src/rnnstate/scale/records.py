"""What an engine keeps for each key: counters, the last time, which model, and the state as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import SpecMismatchError
from rnnstate.streaming.stores.records import Card

POLICIES = ("refuse", "migrate", "restart")


@dataclass(frozen=True)
class Record:
    """The record of one key.

    Args:
        number: The number of the last event that was absorbed, -1 before the first one.
        count: Steps since the last initial state.
        time: The event time of the last event in seconds, `None` without times.
        model: The fingerprint of the state and the hash of the weights, with a hyphen between them.
        leaves: The state as bytes, empty if the next event starts from the initial state.
        starts: How often the state started from the initial state.
        repeated: How many events had a number that was absorbed before.
        early: How many events came before the event that they follow.
    """

    number: int = -1
    count: int = 0
    time: float | None = None
    model: str = ""
    leaves: bytes = b""
    starts: int = 0
    repeated: int = 0
    early: int = 0

    @property
    def known(self) -> bool:
        """Whether an event or a savepoint has said which number comes next."""
        return self.number >= 0 or self.count > 0

    @property
    def next(self) -> int:
        """The number of the event that follows. A session without numbers goes on from its step counter."""
        return self.number + 1 if self.number >= 0 else self.count


class LeafBytes:
    """Turns states into bytes, one value for each key, and back. The layout is that of the card.

    Args:
        card: Names, shapes and dtypes of the leaves.

    Example:

    >>> leaf_bytes = LeafBytes(Card("f-w", (("gru/h", (3,), "float32"),)))
    >>> values = leaf_bytes.pack({"gru/h": np.ones((2, 3), "float32")})
    >>> len(values), len(values[0]), leaf_bytes.unpack(values)["gru/h"].shape
    (2, 12, (2, 3))
    """

    def __init__(self, card: Card) -> None:
        self._names = [name for name, _, _ in card.leaves]
        fields = [
            (f"leaf{at}", np.dtype(dtype).newbyteorder("<"), shape) for at, (_, shape, dtype) in enumerate(card.leaves)
        ]
        self._dtype = np.dtype(fields)

    def pack(self, leaves: dict[str, NDArray[Any]]) -> list[bytes]:
        """Return the bytes of each row."""
        rows = np.empty(len(next(iter(leaves.values()))), self._dtype)
        for at, name in enumerate(self._names):
            rows[f"leaf{at}"] = leaves[name]
        size, whole = self._dtype.itemsize, rows.tobytes()
        return [whole[begin : begin + size] for begin in range(0, len(whole), size)]

    def unpack(self, values: Sequence[bytes]) -> dict[str, NDArray[Any]]:
        """Return the leaves `(n, *shape)`."""
        rows = np.frombuffer(b"".join(values), self._dtype)
        return {name: np.array(rows[f"leaf{at}"]) for at, name in enumerate(self._names)}


def of_model(record: Record, card: Card, key: str, policy: str) -> Record:
    """Return a record as this model may go on with it.

    Args:
        record: The record of a key.
        card: The model.
        key: The key, for the message.
        policy: What to do with the record of another model: `"refuse"`, `"migrate"` or `"restart"`.

    Raises:
        SpecMismatchError: If the record is of another model, and the policy does not allow it.
    """
    if record.model in ("", card.model):
        return replace(record, model=card.model)
    fits = record.model.partition("-")[0] == card.fingerprint
    if policy == "restart":
        return replace(record, model=card.model, leaves=b"", count=0)
    if policy == "migrate" and fits:
        return replace(record, model=card.model)
    kind, hint = ("other weights", '"migrate" or "restart"') if fits else ("another state", '"restart"')
    raise SpecMismatchError(
        f"Key {key!r}: the record must be of this model, {card.model}. Received: a record of {record.model}, with {kind}. "
        f"Nothing has changed. Use the old model or another checkpoint, or `on_other_model=` {hint}."
    )
