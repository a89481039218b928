"""Records: what a store keeps for each session. A batch of records is one array per field, so that it costs few calls.

Field                shape             meaning
`keys`               (n,)              text; `keys.encode` turns the key of a session into it
`count`              (n,)              steps since the last initial state
`number`             (n,)              the sequence number of the last push, -1 without numbers
`updated`            (n,)              time of the last change: seconds since 1970, or the event time of the data
`model`              (n,)              which model computed the state: fingerprint and weights
`leaves`             (n, *shape) each  the state
`last`               (n, *shape)       the output of the last step, if the model can run free from it
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import StoreError
from rnnstate.streaming.keys import SHARDS

MODEL_DTYPE = "S33"  # 16 characters of the fingerprint, a hyphen, 16 of the hash of the weights


def shown_time(seconds: float, precision: str = "seconds") -> str:
    """Return the time of a record as text: a date and a time of day, or the seconds if they are no date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision)
    except (OverflowError, ValueError, OSError):  # an event time may be any number
        return f"{seconds:g} s"


@dataclass(frozen=True)
class Card:
    """Which model the records of a store belong to.

    Args:
        model: The fingerprint of the state and the hash of the weights, with a hyphen between them.
        leaves: Name, shape of one row and dtype of each leaf, in order.
        last: The shape of the output of one step, if records keep it.

    Example:

    >>> card = Card("0123456789abcdef-fedcba9876543210", (("gru/h", (3,), "float32"),), (1,))
    >>> Card.from_json(card.to_json()) == card
    True
    """

    model: str
    leaves: tuple[tuple[str, tuple[int, ...], str], ...]
    last: tuple[int, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the architecture of the state, as in `model.state_spec.fingerprint`."""
        return self.model.partition("-")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the card as JSON can hold it."""
        return {"model": self.model, "leaves": self.leaves, "last": self.last, "shards": SHARDS}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Card":
        """Return the card that `to_json` described.

        Raises:
            StoreError: If its keys are spread over another number of shards.
        """
        if given.get("shards", SHARDS) != SHARDS:  # stores of release 0.1.0 do not say it
            raise StoreError(
                f"A store or a savepoint must spread its keys over {SHARDS} shards. Received: {given['shards']}. "
                "Read it with the release that wrote it."
            )
        leaves = tuple((name, tuple(shape), dtype) for name, shape, dtype in given["leaves"])
        return cls(given["model"], leaves, None if given["last"] is None else tuple(given["last"]))


@dataclass(frozen=True)
class Extra:
    """The parts of a record that few sessions have.

    Args:
        answer: The outputs of the last push, if it had a sequence number. A repeated push is answered from them.
        checkpoints: The names of the checkpoints of this session.

    Example:

    >>> Extra(checkpoints=("monday",)).answer is None
    True
    """

    answer: tuple[NDArray[Any], ...] | None = None
    checkpoints: tuple[str, ...] = ()


@dataclass
class Records:
    """The records of several sessions, one array per field.

    Args:
        keys: Distinct keys as text, n of them.
        count: Steps since the last initial state, `(n,)`.
        number: The last sequence number, `(n,)`; -1 without numbers.
        updated: Time of the last change in seconds since 1970, `(n,)`.
        model: The model that computed each state, `(n,)`.
        leaves: The state, each leaf `(n, *shape)`.
        last: The outputs of the last step, `(n, *shape)`, or `None`.
        extras: What few records have, by row.

    Example:

    >>> records = Records.of(["a", "b"], Card("f-w", (("gru/h", (3,), "float32"),)), updated=0.0)
    >>> records.take([1]).keys, records.leaves["gru/h"].shape
    (['b'], (2, 3))
    """

    keys: list[str]
    count: NDArray[np.int64]
    number: NDArray[np.int64]
    updated: NDArray[np.float64]
    model: NDArray[Any]
    leaves: dict[str, NDArray[Any]]
    last: NDArray[Any] | None = None
    extras: dict[int, Extra] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Sequence[str], card: Card, updated: float) -> "Records":
        """Return records of a model with zeros in every leaf, no step and no number."""
        n = len(keys)
        return cls(
            list(keys),
            np.zeros(n, np.int64),
            np.full(n, -1, np.int64),
            np.full(n, updated),
            np.full(n, card.model.encode(), MODEL_DTYPE),
            {name: np.zeros((n, *shape), dtype) for name, shape, dtype in card.leaves},
            None if card.last is None else np.zeros((n, *card.last), np.float32),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Sequence[int]) -> "Records":
        """Return some records, in the given order."""
        places = np.asarray(rows, np.int64)
        return Records(
            [self.keys[row] for row in rows],
            self.count[places],
            self.number[places],
            self.updated[places],
            self.model[places],
            {name: leaf[places] for name, leaf in self.leaves.items()},
            None if self.last is None else self.last[places],
            {at: self.extras[row] for at, row in enumerate(rows) if row in self.extras} if self.extras else {},
        )

    def renamed(self, keys: Sequence[str]) -> "Records":
        """Return the same records under other keys."""
        return Records(
            list(keys), self.count, self.number, self.updated, self.model, self.leaves, self.last, self.extras
        )
