"""Savepoints: sessions of any store in one state file, which any other store loads.

The leaves have one row per record. The metadata hold `format` ("rnnstate-sessions"), `card` (which model), and one list for
each field, in the order of the rows: `keys`, `checkpoints` (a name, or `null` for the session itself), `counts`, `numbers`
(`null` without), `updated`. `clock` says by which clock the times in `updated` count, "wall" or "event"; files of earlier
releases lack it. `models` names the models of all records. `answers`, `names` and `last` hold what few records have.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.errors import DataError, SpecMismatchError, StoreError, UnknownKeyError
from rnnstate.messages import listed
from rnnstate.state.files import load_metadata, load_state, save_state
from rnnstate.streaming.keys import checkpoint_of, decode, encode, split
from rnnstate.streaming.stores.records import MODEL_DTYPE, Card, Extra, Records
from rnnstate.streaming.stores.store import Store

_FORMAT = "rnnstate-sessions"


def save_store(store: Store, path: str | os.PathLike[str], keys: Sequence[object] | None) -> int:
    """Write sessions of a store to a savepoint, and return the number of records. See `Store.save`."""
    card = store.read_card()
    if card is None:
        raise DataError("A store must belong to a model to be saved. Received: a new store. Open it with a `Streamer`.")
    texts = sorted(_chosen(list(store.keys()), keys))
    records = store.read(texts).records
    save_state(path, records.leaves, metadata={**_described(records, card), "clock": store.clock})
    return len(records)


def load_store(store: Store, path: str | os.PathLike[str], keys: Sequence[object] | None) -> int:
    """Put the sessions of a savepoint into a store, and return the number of records. See `Store.load`."""
    about = load_metadata(path)
    if about.get("format") != _FORMAT:
        raise DataError(
            f"A savepoint must be a file that `store.save` wrote. Received: `{Path(path)}`, a state file without sessions. "
            "Use `rnnstate.load_state` and `streamer.write`."
        )
    if (clock := about.get("clock", store.clock)) != store.clock:
        raise StoreError(
            f'The store must have the clock of the savepoint, `clock="{clock}"`. Received: a store with '
            f'`clock="{store.clock}"`. Times of two clocks cannot be compared. Load it into a store with the other clock.'
        )
    records, theirs, ours = _read(path, about), Card.from_json(about["card"]), store.read_card()
    chosen = set(_chosen(records.keys, keys))
    if ours is None:
        store.write_card(theirs)
        ours = theirs
    if ours.fingerprint != theirs.fingerprint or ours.last != theirs.last:
        raise SpecMismatchError(
            f"The savepoint must be of a model with fingerprint {ours.fingerprint}. Received: `{path}`, of fingerprint "
            f"{theirs.fingerprint}."
        )
    records = records.take([row for row, key in enumerate(records.keys) if key in chosen])
    records.leaves = dict(zip((name for name, _, _ in ours.leaves), records.leaves.values(), strict=True))
    # The states count as states of the model of the store from now on, as at a migration.
    records.model[:] = ours.model.encode()
    if len(records):
        store.commit(records)
    return len(records)


def _chosen(texts: list[str], keys: Sequence[object] | None) -> list[str]:
    """Return the texts of the chosen sessions and of their checkpoints."""
    if keys is None:
        return texts
    wanted = {encode(key) for key in keys}
    if missing := wanted - set(texts):
        raise UnknownKeyError(f"Each key must be that of a session. Received: {listed(map(decode, sorted(missing)))}.")
    return [text for text in texts if split(text)[0] in wanted]


def _described(records: Records, card: Card) -> dict[str, Any]:
    pairs = [split(key) for key in records.keys]
    answers = {str(at): list(map(_array_json, e.answer)) for at, e in records.extras.items() if e.answer is not None}
    return {
        "format": _FORMAT,
        "card": card.to_json(),
        "keys": [decode(text) for text, _ in pairs],
        "checkpoints": [name for _, name in pairs],
        "counts": records.count.tolist(),
        "numbers": [None if number < 0 else number for number in records.number.tolist()],
        "updated": records.updated.tolist(),
        "models": sorted({model.decode() for model in records.model.tolist()}),
        "answers": answers,
        "names": {str(at): list(extra.checkpoints) for at, extra in records.extras.items() if extra.checkpoints},
        "last": None if records.last is None else _array_json(records.last),
    }


def _read(path: str | os.PathLike[str], about: dict[str, Any]) -> Records:
    state = load_state(path)
    texts = [
        encode(key) if name is None else checkpoint_of(encode(key), name)
        for key, name in zip(about["keys"], about["checkpoints"], strict=True)
    ]
    answers = {int(at): tuple(map(_array_of, parts)) for at, parts in about["answers"].items()}
    names = {int(at): tuple(given) for at, given in about["names"].items()}
    return Records(
        texts,
        np.array(about["counts"], np.int64),
        np.array([-1 if number is None else number for number in about["numbers"]], np.int64),
        np.array(about["updated"], np.float64),
        np.full(len(texts), about["card"]["model"].encode(), MODEL_DTYPE),
        dict(state),
        None if about["last"] is None else _array_of(about["last"]),
        {at: Extra(answers.get(at), names.get(at, ())) for at in {*answers, *names}},
    )


def _array_json(array: Any) -> dict[str, Any]:
    content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": array.shape, "base64": content}


def _array_of(given: dict[str, Any]) -> Any:
    content = base64.b64decode(given["base64"])
    return np.frombuffer(content, given["dtype"]).reshape(given["shape"]).copy()
