"""The command `sessions`: an operator looks at a store and changes it, without the model."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.cli.output import Output
from rnnstate.cli.stores import open_existing, open_store
from rnnstate.errors import DataError, StoreError, UnknownKeyError
from rnnstate.messages import counted, text_table
from rnnstate.state.files import load_metadata
from rnnstate.streaming.keys import checkpoint_of, decode, encode, split
from rnnstate.streaming.stores.expiry import Expiring
from rnnstate.streaming.stores.records import Extra, Records, shown_time
from rnnstate.streaming.stores.store import BUSY, Store

_USAGE = {
    "ls": ("STORE", 0, 0),
    "show": ("STORE KEY", 1, 1),
    "export": ("STORE FILE [KEY ...]", 1, None),
    "import": ("STORE FILE [KEY ...]", 1, None),
    "fork": ("STORE KEY NEW", 2, 2),
    "drop": ("STORE KEY [KEY ...]", 1, None),
    "expire": ("STORE --idle S", 0, 0),
}
_HEADER = ("key", "steps", "number", "updated", "checkpoints")
_READ = 1000  # records of one read


def sessions(options: argparse.Namespace, output: Output) -> None:
    """Do what `rnnstate sessions` is asked to do.

    Raises:
        DataError: If there is no such store, or names are missing or left.
        UnknownKeyError: If there is no such session.
    """
    usage, least, most = _USAGE[options.action]
    if len(options.names) < least or (most is not None and len(options.names) > most):
        raise DataError(f"Usage: rnnstate sessions {options.action} {usage}. Received: {len(options.names) + 1} names.")
    store, ended = _opened(options)
    try:
        if options.action == "expire":
            _expire(store, ended, options, output)
            return
        _ACTIONS[options.action](_Chosen(store, _prefix(options.token)), options, output)
    finally:
        store.close()


def _opened(options: argparse.Namespace) -> tuple[Store, list[str]]:
    """Return the store, and the list into which it writes the keys of the records that end."""
    ended: list[str] = []
    if options.action == "import":
        return open_store(options.store, clock=_clock_of(Path(options.names[0]), options.clock)), ended
    if (options.action == "expire") != (options.idle is not None) or options.clock or (options.token and options.idle):
        raise DataError(
            "`--idle` belongs to `expire`, which needs it and takes no `--token`, and `--clock` to `import`. Received: "
            f"sessions {options.action}. Give the options of this action alone."
        )
    if options.idle is None:
        return open_existing(options.store), ended
    return open_existing(options.store, idle=options.idle, on_evict=lambda gone, _: ended.extend(gone.keys)), ended


def _clock_of(file: Path, given: str | None) -> str | None:
    """Return the clock for a new store. A file that cannot be read, or has another clock, makes no new store."""
    clock = load_metadata(file).get("clock", given)
    if given not in (None, clock):
        raise DataError(
            f"`--clock` must name the clock of FILE, which is {clock}. Received: {given}. Leave `--clock` out."
        )
    return clock


class _Chosen:
    """The sessions of a store, or of one token in it.

    Args:
        store: The store.
        prefix: The text before the keys of the token, which is empty without a token.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self.store, self.prefix = store, prefix

    def text(self, name: str) -> str:
        """Return the text of a key in the store. A word of digits may be a number as key."""
        text = encode(f"{self.prefix}{name}")
        if not self.prefix and name.lstrip("-").isdigit() and self.store.read([text]).rows[0] < 0:
            number = encode(int(name))
            return number if self.store.read([number]).rows[0] >= 0 else text
        return text

    def name(self, text: str) -> str:
        """Return a key as the command line shows it."""
        return str(decode(text))[len(self.prefix) :]

    def texts(self) -> list[str]:
        """Return the texts of all sessions, sorted."""
        return sorted(
            text for text in list(self.store.keys()) if split(text)[1] is None and text.startswith(self.prefix)
        )

    def record(self, text: str) -> Records:
        """Return the record of a session, one row."""
        reading = self.store.read([text])
        if reading.rows[0] < 0:
            raise UnknownKeyError(f"There must be a session with key {self.name(text)!r}. Received: no such session.")
        return reading.records


def _ls(chosen: _Chosen, options: argparse.Namespace, output: Output) -> None:
    texts = chosen.texts()
    found = []
    for begin in range(0, len(texts), _READ):
        records = chosen.store.read(texts[begin : begin + _READ]).records
        found += [{"key": chosen.name(records.keys[row]), **_facts(records, row)} for row in range(len(records))]
    if options.json:
        output.document({"sessions": found})
        return
    rows = [_cells(one) for one in found]
    output.result(text_table(_HEADER, rows, right=(1, 2)) if rows else ["No sessions."])


def _show(chosen: _Chosen, options: argparse.Namespace, output: Output) -> None:
    text = chosen.text(options.names[0])
    records = chosen.record(text)
    leaves = [
        {"leaf": name, "shape": list(leaf.shape[1:]), "dtype": str(leaf.dtype), **_range(leaf)}
        for name, leaf in records.leaves.items()
    ]
    facts = {"key": chosen.name(text), **_facts(records, 0), "model": bytes(records.model[0]).decode()}
    if options.json:
        output.document({**facts, "leaves": leaves})
        return
    known = {name: value for name, value in facts.items() if value not in (None, [])}
    output.result(f"{name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in known.items())
    header = ("leaf", "shape", "dtype", "min", "max")
    cells = [[_shown(leaf[name]) for name in header] for leaf in leaves]
    output.result(["", *text_table(header, cells, right=(3, 4))])


def _export(chosen: _Chosen, options: argparse.Namespace, output: Output) -> None:
    path = Path(options.names[0])
    if path.exists() and not options.force:
        raise DataError(f"FILE must be new. Received: {path}, which exists. Give `--force` to replace it.")
    number = chosen.store.save(path, _wanted(chosen, options.names[1:]))
    output.note(f"Wrote {path}: {counted(number, 'record')}.")
    if options.json:
        output.document({"records": number})


def _import(chosen: _Chosen, options: argparse.Namespace, output: Output) -> None:
    given = options.names[1:]
    if chosen.prefix and not given:
        raise DataError("`import` with `--token` needs the keys. Received: none. Name them, or leave `--token` out.")
    keys = [decode(encode(f"{chosen.prefix}{name}")) for name in given] or None
    number = chosen.store.load(options.names[0], keys)
    output.note(f"Read {options.names[0]}: {counted(number, 'record')}.")
    if options.json:
        output.document({"records": number})


def _fork(chosen: _Chosen, options: argparse.Namespace, output: Output) -> None:
    text, new = chosen.text(options.names[0]), encode(f"{chosen.prefix}{options.names[1]}")
    record = chosen.record(text).renamed([new])
    reading = chosen.store.read([new], lease=True)
    if reading.rows[0] >= 0 or reading.tokens[0] == BUSY:
        if reading.tokens[0] != BUSY:
            chosen.store.release([new], reading.tokens)
        raise DataError(f"NEW must be a key without a session. Received: {options.names[1]}. Drop it first.")
    record.number[:], record.extras = -1, {}
    if not chosen.store.commit(record, reading.tokens).all():
        raise StoreError(f"Another worker has begun the session {options.names[1]}. Nothing has changed.")
    output.note(f"Began {options.names[1]} from {options.names[0]}.")
    if options.json:
        output.document({"key": options.names[1], **_facts(record, 0)})


def _drop(chosen: _Chosen, options: argparse.Namespace, output: Output) -> None:
    texts = []
    for text in dict.fromkeys(map(chosen.text, options.names)):  # all of them are looked up before one is dropped
        names = chosen.record(text).extras.get(0, Extra()).checkpoints
        texts += [text, *(checkpoint_of(text, name) for name in names)]
    number = chosen.store.delete(texts)
    output.note(f"Dropped {counted(number, 'record')}.")
    if options.json:
        output.document({"records": number})


def _expire(store: Store, ended: list[str], options: argparse.Namespace, output: Output) -> None:
    assert isinstance(store, Expiring)  # noqa: S101
    store.expire()
    pairs = sorted(map(split, ended), key=str)
    for text, name in pairs:
        output.note(f"Ended {decode(text)}{f', checkpoint {name}' if name else ''}.")
    output.note(f"Ended {counted(len(pairs), 'record')} by the {store.clock} clock.")
    if options.json:
        output.document({"clock": store.clock, "ended": [{"key": decode(t), "checkpoint": name} for t, name in pairs]})


_ACTIONS: dict[str, Callable[[_Chosen, argparse.Namespace, Output], None]] = {
    "ls": _ls,
    "show": _show,
    "export": _export,
    "import": _import,
    "fork": _fork,
    "drop": _drop,
}


def _prefix(token: str | None) -> str:
    if token is None:
        return ""
    from rnnstate.serving.tokens import Tenant

    return Tenant.of(token).prefix


def _wanted(chosen: _Chosen, names: Sequence[str]) -> list[str | int] | None:
    """Return the keys of an export, or `None` for all of them."""
    if names or not chosen.prefix:
        return [decode(chosen.text(name)) for name in names] or None
    return [decode(text) for text in chosen.texts()]


def _facts(records: Records, row: int) -> dict[str, Any]:
    number = int(records.number[row])
    return {
        "steps": int(records.count[row]),
        "number": None if number < 0 else number,
        "updated": shown_time(float(records.updated[row])),
        "checkpoints": list(records.extras.get(row, Extra()).checkpoints),
    }


def _cells(one: dict[str, Any]) -> list[str]:
    return [", ".join(one[name]) if name == "checkpoints" else _shown(one[name]) for name in _HEADER]


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(leaf: Any) -> dict[str, float | None]:
    """Return the smallest and the largest value of a leaf."""
    if not leaf.size or leaf.dtype.kind != "f":
        return {"min": None, "max": None}
    return {"min": float(np.min(leaf)), "max": float(np.max(leaf))}
