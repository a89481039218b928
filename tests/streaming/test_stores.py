"""Every store keeps what it acknowledges, as a dict does; and what each store adds to the contract."""

import sys
import time
import warnings

import numpy as np
import pytest

import rnnstate as rs
from adding import Adding
from rnnstate import stores
from rnnstate.streaming.stores.contract import CARD, _records
from servers import RedisServer, redis_server  # noqa: F401

pytestmark = pytest.mark.once


class TestMemory(stores.StoreContract):
    """The table in memory."""

    def open(self):
        return stores.MemoryStore()

    def expiring(self, idle, on_evict, clock):
        return stores.MemoryStore(idle=idle, on_evict=on_evict, clock=clock)


class TestLmdb(stores.StoreContract):
    """The folder."""

    examples = 8

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder, self.made = tmp_path, 0

    def open(self):
        self.made += 1
        return stores.LmdbStore(self.folder / str(self.made), capacity=2**24, sync=False)

    def expiring(self, idle, on_evict, clock):
        self.made += 1
        return stores.LmdbStore(self.folder / str(self.made), 2**24, False, idle, on_evict, clock)


class TestRedis(stores.StoreContract):
    """The server."""

    examples = 8

    @pytest.fixture(autouse=True)
    def _server(self, redis_server):  # noqa: F811
        self.url, self.made = redis_server.url, 0

    def open(self):
        self.made += 1
        return stores.RedisStore(self.url, prefix=f"contract{id(self)}-{self.made}:", wait=0.05)

    def expiring(self, idle, on_evict, clock):
        self.made += 1
        prefix = f"expiring{id(self)}-{self.made}:"
        return stores.RedisStore(self.url, prefix, idle=idle, on_evict=on_evict, clock=clock)


def test_the_contract_finds_a_store_that_forgets():
    """The control: a store that takes any token, and one that loses a leaf, fail the contract."""

    class Careless(stores.MemoryStore):
        def commit(self, records, tokens=None):
            return super().commit(records)

    class Loses(stores.MemoryStore):
        def commit(self, records, tokens=None):
            records.leaves = {**records.leaves, "lstm/c": 0 * records.leaves["lstm/c"]}
            return super().commit(records, tokens)

    for kind, text in ((Careless, "written rows must be"), (Loses, "records must be")):
        contract = type("Broken", (stores.StoreContract,), {"open": lambda self, kind=kind: kind()})
        with pytest.raises(AssertionError, match=text):
            contract().test_it_equals_a_dict()


def opened(**limits):
    """Return a memory store of the model of the contract."""
    store = stores.MemoryStore(**limits)
    store.write_card(CARD)
    return store


def put(store, *keys, value=-1.0):
    """Write records without answers, one commit each."""
    for key in keys:
        store.commit(_records([key], value))


def test_memory_evicts_the_oldest_with_notice():
    """Beyond the capacity the session that was written longest ago goes, and the notice holds its whole state."""
    notices = []
    store = opened(capacity=1000, on_evict=lambda records, reason: notices.append((records, reason)))
    put(store, "a", "b", "c", value=-2.0)
    put(store, "a")
    put(store, "d", "e")
    assert [(records.keys, reason) for records, reason in notices] == [(["b"], "capacity"), (["c"], "capacity")]
    assert notices[0][0].leaves["lstm/h"].tolist() == [[-2.0, -2.0, -2.0]]
    assert sorted(store.keys()) == ["a", "d", "e"]
    assert store.nbytes <= 1000


def test_a_full_memory_store_without_notice_refuses():
    """Without `on_evict` and `spill` a full store keeps what it has, and says so."""
    store = opened(capacity=600)
    put(store, "a", "b")
    with pytest.raises(rs.StoreError, match=r"room for 260 bytes more. Received: 80 bytes left of capacity=600"):
        put(store, "c")
    put(store, "b", value=-3.0)
    assert sorted(store.keys()) == ["a", "b"]
    with pytest.raises(ValueError, match="`idle` evicts sessions, so it needs `on_evict` or `spill`"):
        stores.MemoryStore(idle=1.0)


def test_a_notice_that_fails_loses_nothing():
    """If `on_evict` raises, the old sessions stay and the new one is not written."""

    def refuse(records, reason):
        raise OSError("disk full")

    store = opened(capacity=600, on_evict=refuse)
    put(store, "a", "b")
    with pytest.raises(OSError, match="disk full"):
        put(store, "c")
    assert sorted(store.keys()) == ["a", "b"]


def test_spilled_sessions_come_back(tmp_path):
    """Evicted sessions go to the other store with all fields, and a read brings them back."""
    spill = stores.LmdbStore(tmp_path / "spill", capacity=2**24, sync=False)
    store = opened(capacity=1500, spill=spill)
    for number in range(30):
        store.commit(_records([f"k{number}"], float(number % 5 + 1)))
    assert len(spill) > 20
    assert len(store) == 30
    for number in range(30):
        found = store.read([f"k{number}"]).records
        assert found.leaves["lstm/c"][0, 0, 0] == number % 5 + 1
        assert found.extras[0].answer[0].tolist() == [[number % 5 + 1] * 2]
    assert len(store) == 30


def test_idle_sessions_are_evicted():
    """A session that nobody wrote for `idle` seconds goes, with the reason."""
    notices = []
    store = opened(idle=100.0, on_evict=lambda records, reason: notices.append((records.keys, reason)))
    old, new = _records(["old"], -1.0), _records(["new"], -1.0)
    old.updated[:], new.updated[:] = time.time() - 101, time.time()
    store.commit(new)
    store.commit(old)
    assert store.expire() == 1
    assert notices == [(["old"], "idle")]
    assert list(store.keys()) == ["new"]


def test_event_time_evicts_what_the_data_left_behind():
    """A session goes once the latest event is `idle` seconds after its last one, whatever the clock of the machine says."""
    notices = []
    note = lambda records, reason: notices.append((records.keys, reason, records.updated.tolist()))  # noqa: E731
    streamer = rs.Streamer(Adding(), stores.MemoryStore(idle=100.0, on_evict=note, clock="event"))
    streamer.push({"old": [1.0], "late": [1.0]}, times={"old": 5.0, "late": 50.0})
    streamer.push({"late": [2.0]}, times={"late": 20.0})  # out of order: the session is no older than before
    streamer.push({"new": [1.0]}, times={"new": 104.0})
    assert notices == []
    streamer.push({"none": [1.0]})  # without a time it has the latest one
    streamer.checkpoint("none", "kept")
    streamer.push({"new": [1.0]}, times={"new": 112.0})
    assert notices == [(["old"], "event time", [5.0])]
    streamer.push({"new": [1.0]}, times={"new": 151.0})
    streamer.store.expire()
    assert [keys for keys, *_ in notices] == [["old"], ["late"]]
    assert sorted(streamer.keys()) == ["new", "none"]
    with pytest.raises(rs.PushError, match=r"'new': an event time must be a finite number, in seconds\. Received: nan"):
        streamer.push({"new": [1.0]}, times={"new": float("nan")})
    with pytest.raises(rs.DataError, match=r"Received: times for MemoryStore\. Leave `times` out"):
        rs.Streamer(Adding()).push({"a": [1.0]}, times={"a": 1.0})
    with pytest.raises(ValueError, match='`clock` must be "wall" or "event"'):
        stores.MemoryStore(clock="sun")


def test_a_durable_store_remembers_its_clock(tmp_path, redis_server):  # noqa: F811
    """A store opens with the clock that it was written with, and refuses another one. An empty one takes any."""
    makes = (
        lambda **options: stores.LmdbStore(tmp_path / "clock", capacity=2**24, **options),
        lambda **options: stores.RedisStore(redis_server.url, "clock:", **options),
    )
    for make in makes:
        make().close()
        streamer = rs.Streamer(Adding(), make(clock="event"))
        streamer.push({"a": [1.0]}, times={"a": 7.0})
        streamer.push({"b": [1.0]})
        assert streamer.store.read(["a", "b"]).records.updated.tolist() == [7.0, 7.0]
        streamer.store.close()
        again = make()
        assert (again.clock, again.now(), again.expire()) == ("event", 7.0, 0)
        again.close()
        with pytest.raises(rs.StoreError, match=r'are of `clock="event"`\. Received: clock="wall"\. Leave'):
            make(clock="wall")
        with pytest.raises(ValueError, match="`idle` ends sessions, so it needs `on_evict`"):
            make(idle=1.0)
        with pytest.raises(ValueError, match='`clock` must be "wall" or "event"'):
            make(clock="sun")


def test_a_savepoint_names_its_clock(tmp_path):
    """A store with the other clock refuses it and stays as it was. A file of an earlier release, without clock, loads."""
    path = tmp_path / "events.safetensors"
    streamer = rs.Streamer(Adding(), stores.MemoryStore(clock="event"))
    streamer.push({"a": [1.0]}, times={"a": 7.0})
    streamer.store.save(path)
    other, same = stores.MemoryStore(), stores.MemoryStore(clock="event")
    with pytest.raises(rs.StoreError, match=r'clock of the savepoint, `clock="event"`\. Received: .* `clock="wall"`'):
        other.load(path)
    assert (list(other.keys()), other.read_card()) == ([], None)
    assert same.load(path) == 1
    assert (list(same.keys()), same.now()) == (["a"], 7.0)
    about = rs.load_metadata(path)
    del about["clock"]
    rs.save_state(path, rs.load_state(path), metadata=about)
    assert other.load(path) == 1


def test_a_session_that_a_worker_holds_does_not_end(redis_server):  # noqa: F811
    """Redis ends no session between the read and the commit of another worker, and ends it once the lease is given back."""
    gone = []
    note = lambda records, reason: gone.extend(records.keys)  # noqa: E731
    store = stores.RedisStore(redis_server.url, "held:", idle=10.0, on_evict=note, clock="event")
    store.write_card(CARD)
    records = _records(["a", "b", "c"], 1.0)
    records.updated[:] = 1.0, 2.0, 100.0
    store.commit(records)
    other = stores.RedisStore(redis_server.url, "held:")
    held = other.read(["a"], lease=True).tokens
    assert (store.expire(), gone) == (1, ["b"])
    assert store.read(["b"], lease=True).tokens[0] != stores.store.BUSY
    other.release(["a"], held)
    assert (store.expire(), gone) == (1, ["b", "a"])


@pytest.mark.parametrize("units", [8, 64])
def test_memory_per_session(units):
    """A session takes at most 1.25 times its state and 200 bytes, keys included, while the table grows."""
    card = stores.Card("f-w", (("lstm/h", (units,), "float32"), ("lstm/c", (units,), "float32")))
    store, state = stores.MemoryStore(), 2 * units * 4
    store.write_card(card)
    for begin in range(0, 20_000, 1000):
        keys = [f"session-{number}" for number in range(begin, begin + 1000)]
        store.commit(stores.Records.of(keys, card, 0.0))
        table, n = store._table, begin + 1000
        keys_and_dict = sys.getsizeof(table._slots) + sys.getsizeof(table._keys) + n * (sys.getsizeof(keys[-1]) + 32)
        assert table.allocated + keys_and_dict <= n * (1.25 * state + 200) + 2000


def test_a_lease_keeps_other_workers_away(redis_server):  # noqa: F811
    """While one worker holds a session, another one waits and then gives up; after the commit it may go on."""
    one, two = (stores.RedisStore(redis_server.url, "lease:", wait=0.05) for _ in range(2))
    one.write_card(CARD)
    two.read_card()
    held = one.read(["a", "b"], lease=True).tokens
    reading = two.read(["b", "c"], lease=True)
    assert reading.tokens[0] == stores.store.BUSY
    two.release(["c"], reading.tokens[1:])
    assert one.commit(_records(["a", "b"], 1.0), held).all()
    # A commit that is sent twice, because the answer was lost, counts once.
    assert one.commit(_records(["a", "b"], 1.0), held).all()
    assert two.read(["b"], lease=True).tokens[0] > held.max()


def test_a_worker_whose_lease_ended_cannot_commit(redis_server):  # noqa: F811
    """Law 10: the commit of a worker that comes back after its lease is refused, whether or not another one went on."""
    slow = stores.RedisStore(redis_server.url, "paused:", lease=0.05)
    other = stores.RedisStore(redis_server.url, "paused:")
    slow.write_card(CARD)
    tokens = slow.read(["a", "b"], lease=True).tokens
    time.sleep(0.1)
    assert other.commit(_records(["a"], 5.0), other.read(["a"], lease=True).tokens).all()
    assert slow.commit(_records(["a", "b"], 1.0), tokens).tolist() == [False, False]
    reading = other.read(["a", "b"])
    assert reading.rows == [0, -1]
    assert reading.records.count.tolist() == [15]


def test_redis_that_may_lose_sessions_is_reported(tmp_path):
    """A server that forgets its sessions, or the last pushes, is no silent loss. A server that is not there is an error."""
    server = RedisServer(tmp_path)
    server.client().config_set("appendfsync", "everysec")
    with pytest.warns(
        rs.errors.StoreWarning, match="`appendfsync everysec`, so a kill or a power cut may lose the last"
    ):
        stores.RedisStore(server.url)
    server.client().config_set("appendonly", "no")
    with pytest.warns(rs.errors.StoreWarning, match="writes no append-only file"):
        store = stores.RedisStore(server.url)
    server.stop()
    with pytest.raises(rs.StoreError, match=r"Redis server must answer\. Received: redis://127"):
        store.read_card()


@pytest.mark.parametrize("name", ["lmdb", "redis"])
def test_a_missing_library_is_named(name, monkeypatch, tmp_path):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, name, None)
    make = {"lmdb": lambda: stores.LmdbStore(tmp_path), "redis": lambda: stores.RedisStore("redis://localhost")}[name]
    with pytest.raises(ImportError, match=rf'needs {name}. Install it with: pip install "rnnstate\[{name}\]"'):
        make()


def test_lmdb_that_is_full_changes_nothing(tmp_path):
    """A commit that does not fit in the file raises, and the records before it are as they were."""
    store = stores.LmdbStore(tmp_path, capacity=2**17, sync=False)
    store.write_card(CARD)
    put(store, "a")
    with pytest.raises(rs.StoreError, match="must have room in its file"):
        store.commit(_records([f"k{number}" for number in range(2000)], -1.0))
    assert list(store.keys()) == ["a"]


def test_savepoints_are_refused_where_they_do_not_fit(tmp_path):
    """A state file without sessions, a model with another state and a missing key are errors that say which."""
    store = opened()
    put(store, "a")
    store.save(tmp_path / "sessions.safetensors")
    rs.save_state(tmp_path / "state.safetensors", {"gru/h": np.ones((2, 3), "float32")})
    with pytest.raises(rs.DataError, match="a state file without sessions"):
        store.load(tmp_path / "state.safetensors")
    with pytest.raises(rs.UnknownKeyError, match="Received: 'b'"):
        store.save(tmp_path / "b.safetensors", keys=["b"])
    other = stores.MemoryStore()
    other.write_card(stores.Card("f-w", CARD.leaves, CARD.last))
    with pytest.raises(rs.SpecMismatchError, match=r"of a model with fingerprint f\. Received"):
        other.load(tmp_path / "sessions.safetensors")


def test_warnings_are_not_raised_for_a_durable_server(redis_server):  # noqa: F811
    """The control: a server with an append-only file gives no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = stores.RedisStore(redis_server.url, "quiet:")
        assert store.read_card() is None
        store.close()
