"""The sessions of a streamer, with an exact oracle: the state is the running sum of the input."""

import asyncio
import multiprocessing
import threading
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import rnnstate as rs
from adding import Adding, Refusing
from rnnstate import stores
from rnnstate.errors import StoreWarning
from servers import redis_server  # noqa: F401

pytestmark = pytest.mark.once
KEYS = ("north", "south", 7)


def streamer(store=None, engine=None, **options):
    """Return a streamer of the adding engine."""
    return rs.Streamer(engine or Adding(), store, **{"max_batch": 4, **options})


class AnyOrder(RuleBasedStateMachine):
    """Every operation in any order, on a streamer and on a dict of sums, counts and numbers."""

    def __init__(self):
        super().__init__()
        self.streamer, self.expected, self.kept = streamer(), {}, {}

    @rule(lengths=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 23), min_size=1), single=st.booleans())
    def push(self, lengths, single):
        x = {key: np.arange(1.0, 1 + (1 if single else n))[:, None] for key, n in lengths.items()}
        given = {key: value[0] if single else value for key, value in x.items()}
        numbers = {key: self.expected[key][2] + 1 for key in x if key in self.expected and self.expected[key][2] >= 0}
        y = self.streamer.push(given, numbers=numbers)
        for key, value in x.items():
            total, count, number = self.expected.get(key, (0.0, 0, -1))
            sums = total + np.cumsum(value, axis=0)
            assert y[key].tolist() == (sums[0] if single else sums).tolist()
            self.expected[key] = float(sums[-1, 0]), count + len(value), number + (number >= 0)

    @rule(key=st.sampled_from(KEYS), value=st.integers(-9, 9))
    def start_with_number(self, key, value):
        if key not in self.expected:
            self.streamer.push({key: [float(value)]}, numbers={key: 3})
            self.expected[key] = float(value), 1, 3

    @rule(key=st.sampled_from(KEYS), value=st.integers(-9, 9), number=st.sampled_from([None, 0, 4]))
    def restart(self, key, value, number):
        y = self.streamer.push({key: [float(value)]}, numbers=None if number is None else {key: number}, restart=True)
        assert y[key].tolist() == [float(value)]
        self.expected[key] = float(value), 1, -1 if number is None else number

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def repeat(self, data):
        key = data.draw(st.sampled_from(sorted(self.expected, key=str)))
        total, _, number = self.expected[key]
        if number >= 0 and self.streamer.store.read([str(key) if key != 7 else "\x017"]).records.extras[0].answer:
            y = self.streamer.push({key: [99.0]}, numbers={key: number})[key]
            assert y.ravel()[-1] == total
        if number >= 0:
            with pytest.raises(rs.PushError, match=r"next sequence number must be"):
                self.streamer.push({key: [1.0]}, numbers={key: number + 2})

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), name=st.sampled_from(["a", "b"]))
    def checkpoint_or_rewind(self, data, name):
        key = data.draw(st.sampled_from(sorted(self.expected, key=str)))
        if (key, name) in self.kept:
            self.streamer.rewind(key, name)
            self.expected[key] = self.kept[key, name]
        else:
            self.streamer.checkpoint(key, name)
            self.kept[key, name] = self.expected[key]

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), what=st.sampled_from(["reset", "end", "fork", "rollout"]))
    def change(self, data, what):
        key = data.draw(st.sampled_from(sorted(self.expected, key=str)))
        if what == "reset":
            self.streamer.reset(key)
            self.expected[key] = 0.0, 0, -1
        elif what == "end":
            self.streamer.end(key)
            del self.expected[key]
            self.kept = {pair: value for pair, value in self.kept.items() if pair[0] != key}
        elif what == "fork" and len(self.expected) < len(KEYS):
            new = next(k for k in KEYS if k not in self.expected)
            self.streamer.fork(key, new)
            self.expected[new] = (*self.expected[key][:2], -1)
        elif what == "rollout":
            self.streamer.rollout(key, 3, x0=[1.0])

    @invariant()
    def same(self):
        assert sorted(self.streamer.keys(), key=str) == sorted(self.expected, key=str)
        for key, (total, count, number) in self.expected.items():
            assert self.streamer.peek(key)["sum"].tolist() == [[total]]
            assert self.streamer.count(key) == count
            assert self.streamer.number(key) == (None if number < 0 else number)
            assert set(self.streamer.checkpoints(key)) == {name for k, name in self.kept if k == key}


def test_any_order_of_operations():
    """Random programs give what sums in a dict give, exactly."""
    settings = hypothesis.settings(max_examples=25, stateful_step_count=20, deadline=None, derandomize=True)
    # A fork of a session without numbers may be pushed with numbers only after a reset, so numbers start with a session.
    hypothesis.stateful.run_state_machine_as_test(AnyOrder, settings=settings)


def test_an_error_concerns_its_key_alone():
    """NaN, wrong sizes, numbers and keys, and text fail alone; the other results stand, in the order of the push."""
    one = streamer()
    one.push({"north": [1.0], "numbered": [1.0]}, numbers={"numbered": 0})
    x = {
        "north": [2.0],
        "nan": [float("nan")],
        "wide": [1.0, 2.0, 3.0],
        "text": ["a"],
        "ragged": [[1.0], [1.0, 2.0]],
        "numbered": [1.0],
        1.5: [1.0],
        "": [1.0],
        "south": [[3.0], [4.0]],
    }
    with pytest.raises(
        rs.PushError, match=r"^7 of 9 keys failed; the others have advanced\. Key 'nan': input `x`"
    ) as caught:
        one.push(x, numbers={"numbered": 5})
    assert {key: y.tolist() for key, y in caught.value.results.items()} == {"north": [3.0], "south": [[3.0], [7.0]]}
    kinds = {key: type(error) for key, error in caught.value.errors.items()}
    assert kinds == {
        **dict.fromkeys(["nan", "wide", "text", "ragged", 1.5, ""], rs.DataError),
        "numbered": rs.SequenceError,
    }
    assert "must have shape (features=1,) or (time, features=1). Received: shape=(3,)" in str(
        caught.value.errors["wide"]
    )
    assert sorted(one.keys()) == ["north", "numbered", "south"]
    with pytest.raises(
        rs.PushError, match=r"nothing has advanced\. Key 'west': with `create=False`, the session must exist"
    ):
        one.push({"west": [1.0]}, create=False)
    with pytest.raises(rs.DataError, match=r"`x` must be a mapping by key"):
        one.push([1.0])
    with pytest.raises(rs.DataError, match=r"`numbers` must have keys of `x` alone\. Received: 'west'"):
        one.push({"north": [1.0]}, numbers={"west": 1})
    assert one.count("north") == 2


def test_a_state_that_is_not_finite_is_not_kept():
    """A step that overflows is an error of its key, and the session is as it was."""
    one = streamer()
    one.push({"north": [1e308], "south": [1.0]})
    with pytest.raises(rs.PushError, match=r"1 of 2 keys failed.*'north': the next state must be finite"):
        one.push({"north": [1e308], "south": [1.0]})
    assert one.peek("north")["sum"].tolist() == [[1e308]]
    assert one.peek("south")["sum"].tolist() == [[2.0]]


@pytest.mark.parametrize("lengths", [1, 5], ids=["stacked", "windows"])
def test_a_model_that_raises_concerns_the_key_alone(lengths):
    """The keys for which the model raises are found, whatever shares their step. Their sessions are as they were."""
    one, keys = streamer(engine=Refusing(), max_batch=8), [f"k{at}" for at in range(7)]
    one.push({key: np.ones(1) for key in keys}, numbers={"k1": 0, "k2": 0})
    x = {key: np.full((lengths, 1), 2.0) for key in keys}
    x["k2"][-1], x["k5"][-1] = 13.0, 13.0
    with pytest.raises(
        rs.PushError, match=r"2 of 7 keys failed.*ZeroDivisionError: thirteen\. The session is as"
    ) as caught:
        one.push(x, numbers={"k1": 1, "k2": 1})
    assert {key: type(error) for key, error in caught.value.errors.items()} == dict.fromkeys(("k2", "k5"), rs.StepError)
    assert isinstance(caught.value.errors["k5"].__cause__, ZeroDivisionError)
    for key in keys:
        done = key not in ("k2", "k5")
        assert one.peek(key)["sum"].tolist() == [[1.0 + 2.0 * lengths * done]]
        assert one.count(key) == 1 + lengths * done
    assert one.number("k2") == 0
    again = one.push({"k2": np.ones((1, 1)), "k1": [9.0]}, numbers={"k1": 1, "k2": 1})
    assert (again["k2"].tolist(), again["k1"].ravel()[-1]) == ([[2.0]], 1.0 + 2.0 * lengths)


def test_a_model_that_raises_reaches_its_caller_alone():
    """Of concurrent callers in one step, the caller of the bad input gets the error, and the others their results."""
    one = streamer(engine=Refusing(), max_batch=8, max_delay=0.02)

    async def several():
        calls = [one.apush({key: [value]}) for key, value in (("a", 1.0), ("b", 13.0), ("c", 3.0))]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, error, last = asyncio.run(several())
    assert (first["a"].tolist(), last["c"].tolist()) == ([1.0], [3.0])
    assert isinstance(error.errors["b"], rs.StepError)
    assert sorted(one.keys()) == ["a", "c"]


def test_a_full_store_refuses_the_new_keys_alone(tmp_path):
    """In a push of known and new sessions to a full store, the known ones advance, and new ones have the room there is."""
    one = streamer(stores.MemoryStore(capacity=3 * 212), max_batch=8)
    one.push({"a": [1.0], "b": [1.0]})
    with pytest.raises(
        rs.PushError, match=r"2 of 5 keys failed.*'d': The store must have room for 212 bytes"
    ) as caught:
        one.push({key: [2.0] for key in "abcde"})
    assert {key: y.tolist() for key, y in caught.value.results.items()} == {"a": [3.0], "b": [3.0], "c": [2.0]}
    assert sorted(caught.value.errors) == ["d", "e"]
    assert sorted(one.keys()) == ["a", "b", "c"]


def test_numbers():
    """A repeat gets the same output, a gap and an old number are refused, and numbers are kept to once begun."""
    one = streamer()
    first = one.push({"a": [[1.0], [2.0]]}, numbers={"a": 5})["a"]
    again = one.push({"a": [[7.0], [8.0]]}, numbers={"a": 5})["a"]
    assert again.tolist() == first.tolist() == [[1.0], [3.0]]
    assert one.count("a") == 2
    for number, text in (
        (7, "must be 6, or 5 to repeat"),
        (4, "must be 6"),
        (None, "a push without one"),
        (-1, "from 0 on"),
    ):
        with pytest.raises(rs.PushError, match=text):
            one.push({"a": [1.0]}, numbers={} if number is None else {"a": number})
    assert one.push({"a": [1.0], "b": [2.0]}, numbers={"a": 6})["a"].tolist() == [4.0]
    with pytest.raises(rs.PushError, match="Start the numbers after `reset`"):
        one.push({"b": [1.0]}, numbers={"b": 0})
    one.reset("b")
    assert one.push({"b": [1.0]}, numbers={"b": 0})["b"].tolist() == [1.0]
    one.write("b", {"sum": [4.0]})
    with pytest.raises(rs.PushError, match="answer to number 0 must be in the record"):
        one.push({"b": [1.0]}, numbers={"b": 0})
    assert one.push({"b": [1.0]}, numbers={"b": 1})["b"].tolist() == [5.0]


def test_masked_rows_do_not_advance():
    """A key with a false flag has no result, and its session is as it was."""
    one = streamer()
    one.push({"a": [1.0], "b": [1.0]})
    assert list(one.push({"a": [1.0], "b": [1.0]}, mask={"a": False})) == ["b"]
    assert one.peek("a")["sum"].tolist() == [[1.0]]
    assert one.push({"a": [1.0]}, mask={"a": np.False_}) == {}


def test_wrong_states_change_nothing():
    """`write` checks everything first; unknown keys and checkpoints are named."""
    one = streamer()
    one.push({"a": [1.0]})
    for state, error, text in (
        ({"total": [1.0]}, rs.StateStructureError, "leaves `sum`. Received: `total`"),
        ({"sum": [1.0, 2.0]}, rs.StateShapeError, r"`sum` must have shape \(1, 1\) or \(1,\). Received: shape=\(2,\)"),
        ({"sum": [1]}, rs.StateValueError, "must be floating"),
        ({"sum": [np.inf]}, rs.StateValueError, "finite"),
    ):
        with pytest.raises(error, match=text):
            one.write("a", state)
    assert one.peek("a")["sum"].tolist() == [[1.0]]
    for call in (lambda: one.peek("b"), lambda: one.end("b"), lambda: one.reset("b"), lambda: one.fork("b", "c")):
        with pytest.raises(rs.UnknownKeyError, match="session with key 'b'"):
            call()
    with pytest.raises(rs.UnknownKeyError, match="Received: `dawn`"):
        one.rewind("a", "dawn")
    with pytest.raises(rs.DataError, match="a fork begins a new session"):
        one.fork("a", "a")
    one.write("new", {"sum": [[2.5]]})
    assert one.push({"new": [1.0]})["new"].tolist() == [3.5]
    assert "new" in one
    assert "b" not in one
    assert len(one) == 2


def test_shapes_are_few():
    """Rows are powers of two up to the limit and steps are powers of four, whatever is pushed; `warmup` runs them all."""
    engine = Adding()
    one = streamer(engine=engine, max_batch=4, max_steps=16)
    assert one.warmup() == 9
    warm = set(engine.shapes)
    for n in range(1, 8):
        one.push({f"k{i}": np.ones((3 * i + n, 1)) for i in range(n)})
        one.push({f"k{i}": np.ones(1) for i in range(n)})
    assert set(engine.shapes) == warm == {(rows, steps) for rows in (1, 2, 4) for steps in (1, 4, 16)}


def test_threads_share_a_session():
    """Pushes of several threads to one key all count, one after the other."""
    one = streamer()
    threads = [threading.Thread(target=lambda: [one.push({"a": [1.0]}) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.peek("a")["sum"].tolist() == [[200.0]]
    assert one.count("a") == 200


def test_async_callers_share_a_step_and_keep_their_order():
    """Concurrent callers run in few batches; pushes of one key keep their order; an error reaches its caller alone."""
    engine = Adding()
    one = streamer(engine=engine, max_batch=64, max_delay=0.02)

    async def several():
        calls = [one.apush({key: [float(value)]}) for value in (1, 2, 3) for key in ("a", "b", "c")]
        return await asyncio.gather(*calls, one.apush({"bad": [np.nan]}), return_exceptions=True)

    *results, error = asyncio.run(several())
    assert isinstance(error, rs.PushError)
    totals = [float(next(iter(y.values()))[0]) for y in results]
    assert totals == [1.0] * 3 + [3.0] * 3 + [6.0] * 3
    assert engine.shapes == [(4, 1)] * 3


def test_a_cancelled_caller_has_pushed_all_the_same():
    """A time-out drops no work, and mixes up no keys."""
    engine = Adding()
    engine.pause = lambda: time.sleep(0.05)
    one = streamer(engine=engine)

    async def cancelled():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.apush({"a": [1.0]}), 0.01)
        return await asyncio.gather(one.apush({"a": [1.0]}), one.apush({"b": [5.0]}))

    results = asyncio.run(cancelled())
    assert [y.popitem()[1].tolist() for y in results] == [[2.0], [5.0]]


def test_a_store_of_another_model(tmp_path):
    """Other weights and other states are refused; `migrate` keeps what fits, `restart` drops all, and both are reported."""
    store = stores.LmdbStore(tmp_path, capacity=2**24, sync=False)
    old = streamer(store)
    old.push({"a": [1.0]})
    trained = Adding("f" * 16)
    with pytest.raises(rs.SpecMismatchError, match=r"with other weights.*Nothing has changed.*\"migrate\" to keep"):
        streamer(store, trained)
    with pytest.warns(StoreWarning, match="`on_other_model='migrate'` kept 1 record"):
        new = streamer(store, trained, on_other_model="migrate")
    assert new.push({"a": [1.0]})["a"].tolist() == [2.0]
    with pytest.raises(rs.PushError, match="must be of this model"):
        old.push({"a": [1.0]})
    other = Adding()
    other.card = stores.Card("other-weights", (("sum", (2,), "float64"),))
    for policy in ("refuse", "migrate"):
        with pytest.raises(rs.SpecMismatchError, match="with another state"):
            streamer(store, other, on_other_model=policy)
    assert new.peek("a")["sum"].tolist() == [[2.0]]
    with pytest.warns(StoreWarning, match="dropped 1 record"):
        assert streamer(store, other, on_other_model="restart").keys() == []
    with pytest.raises(ValueError, match="`on_other_model` must be one of"):
        streamer(on_other_model="ask")


def test_two_processes_share_a_folder(tmp_path):
    """Law 10 on one machine: pushes of two processes to one key in LMDB all count, and each sees another total."""
    totals = _fight(lambda: stores.LmdbStore(tmp_path, capacity=2**24, sync=False))
    assert totals == list(range(1, 61))


def test_two_workers_fight_for_a_key(redis_server):  # noqa: F811
    """Law 10: pushes of two processes to one key in Redis all count, and each sees another total."""
    totals = _fight(lambda: stores.RedisStore(redis_server.url, "fight:", wait=30))
    assert totals == list(range(1, 61))


def _fight(make):
    """Push 30 times from each of two processes, and return all totals that they saw, sorted."""
    streamer(make()).store.close()
    context = multiprocessing.get_context("fork")
    seen = context.Queue()

    def work():
        one = streamer(make())
        for _ in range(30):
            seen.put(int(one.push({"a": [1.0]})["a"][0]))
        seen.close()
        seen.join_thread()

    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    totals = [seen.get(timeout=60) for _ in range(60)]
    for worker in workers:
        worker.join(10)
    return sorted(totals)
