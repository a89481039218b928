"""The tests for any store: a state machine that does the same to the store and to a dict, and a few single rules."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.streaming.stores.records import Card, Extra, Records
from rnnstate.streaming.stores.store import Store

CARD = Card("0123456789abcdef-0123456789abcdef", (("lstm/h", (3,), "float32"), ("lstm/c", (5, 2), "float32")), (2,))
_KEYS = ("north", "south", "\x017", "north\x00monday")


class StoreContract:
    """Tests that every store must pass. A subclass says how a store is made, and pytest runs the tests.

    The tests need pytest and hypothesis.

    Example:

    >>> class TestMemory(StoreContract):
    ...     def open(self):
    ...         return stores.MemoryStore()
    >>> TestMemory().test_an_overtaken_commit_is_refused()
    """

    examples = 20  # how many random programs are tried
    steps = 15  # how many operations a program has

    def open(self) -> Store:
        """Return a new, empty store."""
        raise NotImplementedError("A subclass of `StoreContract` must define `open`, which returns an empty store.")

    def expiring(self, idle: float, on_evict: Any, clock: str) -> Store | None:
        """Return a new, empty store whose sessions end after `idle` seconds, or `None` if the store has no such limit."""
        return None

    def opened(self) -> Store:
        """Return a new store that belongs to a model."""
        store = self.open()
        assert store.read_card() is None, "a new store must belong to no model"  # noqa: S101
        store.write_card(CARD)
        return store

    def test_it_keeps_the_card(self) -> None:
        """A store knows which model it belongs to."""
        _same(self.opened().read_card(), CARD, "the card")

    def test_an_overtaken_commit_is_refused(self) -> None:
        """A commit whose token is out of date writes nothing; the other records of the same commit are written."""
        store = self.opened()
        _commit_new(store, ["a"], 1.0)
        tokens = store.read(["a", "b"]).tokens
        if store.retries:
            _commit_new(store, ["a"], 2.0)
            written = store.commit(_records(["a", "b"], 3.0), tokens)
            _same(written.tolist(), [False, True], "the written rows")
            _same(store.read(["a", "b"]).records.leaves["lstm/h"][:, 0].tolist(), [2.0, 3.0], "the leaves")

    def test_a_deleted_key_does_not_take_an_old_commit(self) -> None:
        """A token does not come back when a key is deleted and made again."""
        store = self.opened()
        _commit_new(store, ["a"], 1.0)
        tokens = store.read(["a"], lease=True).tokens
        store.delete(["a"])
        _commit_new(store, ["a"], 2.0)
        _same(store.commit(_records(["a"], 3.0), tokens).tolist(), [False], "the written rows")
        _same(float(store.read(["a"]).records.leaves["lstm/c"][0, 4, 1]), 2.0, "the leaf")

    def test_idle_sessions_end_with_notice(self) -> None:
        """Sessions end by the clock of the machine or by the times of the data. The notice has them and the reason."""
        for clock, start, reason in (("wall", time.time() - 112.0, "idle"), ("event", 0.0, "event time")):
            notices: list[Any] = []
            store = self.expiring(100.0, _noting(notices), clock)
            if store is None:
                return
            store.write_card(CARD)
            _same(store.clock, clock, "the clock")
            for key, seconds in (("late", 50.0), ("old", 5.0), ("late", 60.0), ("new", 112.0)):
                store.commit(_timed(key, start + seconds))
            store.expire()  # type: ignore[attr-defined]  # a store that takes `idle` has it
            _same(notices, [("old", start + 5.0, reason)], "the notices")
            _same(sorted(store.keys()), ["late", "new"], "the keys")
            if clock == "event":
                _same(store.now(), 112.0, "the latest event time")

    def test_a_notice_that_fails_ends_nothing(self) -> None:
        """If `on_evict` raises, the sessions stay, and so does what the commit was going to replace."""
        store = self.expiring(100.0, _refusing, "event")
        if store is None:
            return
        store.write_card(CARD)
        store.commit(_timed("old", 5.0))
        try:
            store.commit(_timed("new", 200.0))
        except OSError:
            _same(sorted(store.keys()), ["old"], "the keys")
        else:
            raise AssertionError("A commit whose notice fails must raise the error of the notice. Received: none.")

    def test_what_is_read_is_a_copy(self) -> None:
        """Nobody changes a store through arrays that it returned or took."""
        store, given = self.opened(), _records(["a"], 1.0)
        store.commit(given)
        given.leaves["lstm/h"][:] = 9.0
        store.read(["a"]).records.leaves["lstm/h"][:] = 8.0
        _same(store.read(["a"]).records.leaves["lstm/h"][0, 0], 1.0, "the leaf")

    def test_a_savepoint_carries_every_field(self) -> None:
        """A savepoint brings the records into another store, all of them or some sessions, with their checkpoints."""
        store = self.opened()
        store.commit(_records(list(_KEYS), 2.5))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sessions.safetensors"
            _same(store.save(path), len(_KEYS), "the number of records")
            before = _as_dict(store, _KEYS)
            store.clear()
            _same(store.load(path, keys=["north"]), 2, "the number of records")
            _same(sorted(store.keys()), ["north", "north\x00monday"], "the keys")
            store.load(path)
            _same(_as_dict(store, _KEYS), before, "the records")

    def test_it_equals_a_dict(self) -> None:
        """Random programs of reads, commits and deletions give what a dict gives."""
        import hypothesis
        from hypothesis import stateful

        machine = _machine(self.opened)
        settings = hypothesis.settings(
            max_examples=self.examples, stateful_step_count=self.steps, deadline=None, derandomize=True
        )
        stateful.run_state_machine_as_test(machine, settings=settings)


def _machine(opened: Any) -> Any:
    """Return a state machine that holds a store against a dict."""
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

    several = st.lists(st.sampled_from(_KEYS), min_size=1, max_size=len(_KEYS), unique=True)
    values = st.integers(-5, 5).map(float)

    class Machine(RuleBasedStateMachine):
        """Does each operation to the store and to a dict of values."""

        def __init__(self) -> None:
            super().__init__()
            self.store = opened()
            self.expected: dict[str, float] = {}

        @rule(keys=several, value=values)
        def commit(self, keys: list[str], value: float) -> None:
            tokens = self.store.read(keys, lease=True).tokens
            written = self.store.commit(_records(keys, value), tokens)
            _same(written.tolist(), [True] * len(keys), "the written rows")
            self.expected |= dict.fromkeys(keys, value)

        @rule(keys=several, value=values)
        def overwrite(self, keys: list[str], value: float) -> None:
            self.store.commit(_records(keys, value))
            self.expected |= dict.fromkeys(keys, value)

        @rule(keys=several, value=values)
        def commit_too_late(self, keys: list[str], value: float) -> None:
            tokens = self.store.read(keys, lease=True).tokens
            self.overwrite(keys[:1], value)
            written = self.store.commit(_records(keys, value + 1), tokens)
            _same(written.tolist(), [False] + [True] * (len(keys) - 1), "the written rows")
            self.expected |= dict.fromkeys(keys[1:], value + 1)

        @rule(keys=several)
        def delete(self, keys: list[str]) -> None:
            there = [key for key in keys if self.expected.pop(key, None) is not None]
            _same(self.store.delete(keys), len(there), "the number of deleted records")

        @rule(keys=several)
        def give_up(self, keys: list[str]) -> None:
            self.store.release(keys, self.store.read(keys, lease=True).tokens)

        @invariant()
        def same(self) -> None:
            expected = {key: _row(key, value) for key, value in self.expected.items()}
            _same(_as_dict(self.store, _KEYS), expected, "the records")
            _same(sorted(self.store.keys()), sorted(self.expected), "the keys")
            _same(len(self.store), len(self.expected), "the number of records")

        def teardown(self) -> None:
            self.store.close()

    return Machine


def _timed(key: str, seconds: float) -> Records:
    records = _records([key], 1.0)
    records.updated[:] = seconds
    return records


def _noting(notices: list[Any]) -> Any:
    """Return an `on_evict` that lists key, time and reason."""
    return lambda records, reason: notices.extend(
        (key, seconds, reason) for key, seconds in zip(records.keys, records.updated.tolist(), strict=True)
    )


def _refusing(records: Records, reason: str) -> None:
    raise OSError("no room for the notice")


def _records(keys: list[str], value: float) -> Records:
    """Return records whose every field follows from the key and a value."""
    records = Records.of(keys, CARD, updated=1000.0 + value)
    records.count[:], records.number[:] = 10 + value, value + 20
    for leaf in records.leaves.values():
        leaf[:] = value
    records.last = np.full((len(keys), 2), value - 1, np.float32)
    for row, key in enumerate(keys):
        if extra := _extra(key, value):
            records.extras[row] = extra
    return records


def _extra(key: str, value: float) -> Extra | None:
    answer = (np.full((1, 2), value, np.float32), np.zeros((3,), np.int32))
    return Extra(answer, ("monday",) if key == "north" else ()) if value > 0 else None


def _row(key: str, value: float) -> Any:
    return _rows(_records([key], value))[key]


def _as_dict(store: Store, keys: Any) -> dict[str, Any]:
    """Return every field of the records of a store as plain values, by key."""
    reading = store.read(list(keys))
    rows = _rows(reading.records)
    _same([row >= 0 for row in reading.rows], [key in rows for key in keys], "the rows that were found")
    return rows


def _rows(records: Records) -> dict[str, Any]:
    found = {}
    for row, key in enumerate(records.keys):
        extra = records.extras.get(row, Extra())
        answer = None if extra.answer is None else [(part.dtype.str, part.tolist()) for part in extra.answer]
        leaves = {name: leaf[row].tolist() for name, leaf in records.leaves.items()}
        last = None if records.last is None else records.last[row].tolist()
        numbers = int(records.count[row]), int(records.number[row]), float(records.updated[row])
        found[key] = (numbers, bytes(records.model[row]), leaves, last, answer, extra.checkpoints)
    return found


def _commit_new(store: Store, keys: list[str], value: float) -> None:
    store.commit(_records(keys, value))


def _same(actual: Any, expected: Any, what: str) -> None:
    if actual != expected:
        raise AssertionError(f"Of a store, {what} must be {expected!r}. Received: {actual!r}.")
