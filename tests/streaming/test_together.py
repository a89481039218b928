"""Sessions that simply go on are pushed together: the results, the records and their order are those of the long way."""

import numpy as np
import pytest

import rnnstate as rs
from adding import Adding, Refusing
from rnnstate import stores
from rnnstate.streaming.keys import encode, encode_all

pytestmark = pytest.mark.once
NAMES = ("north", "south", "west", "7", 7, "up", "down")


class Noted(stores.MemoryStore):
    """A table that counts the pushes which write states alone."""

    def __init__(self, **limits):
        super().__init__(**limits)
        self.written = []

    def scatter(self, rows, leaves, steps, last):
        self.written.append(super().scatter(rows, leaves, steps, last))
        return self.written[-1]


class Slow(stores.MemoryStore):
    """The definition: a table that every push reads and writes by records."""

    def gather(self, keys, rows, model):
        return None


class Shifted(Noted):
    """The control: it takes the states of other rows."""

    def gather(self, keys, rows, model):
        found = super().gather(keys, rows, model)
        if found is not None:
            found.leaves = [np.roll(leaf, 1, axis=0) for leaf in found.leaves]
        return found


def by_key(one, x, numbers):
    """Push the inputs of each key."""
    return one.push(x, numbers)


def by_rows(one, x, numbers):
    """Push one array for all keys, if the push has no numbers."""
    return by_key(one, x, numbers) if numbers else dict(zip(x, one.push_rows([*x], [*x.values()]), strict=True))


def shifted_rows(one, x, numbers):
    """The control: each key gets the input of another one."""
    return by_rows(one, dict(zip(x, np.roll([*x.values()], 1, axis=0), strict=True)), numbers)


def program(store, seed, push=by_key):
    """Run random calls on a streamer, and return all results and the final records."""
    rng, one, seen = np.random.default_rng(seed), rs.Streamer(Adding(), store, max_batch=4), []
    for _ in range(60):
        chosen = [NAMES[at] for at in rng.permutation(len(NAMES))[: rng.integers(1, 1 + len(NAMES))]]
        steps = int(rng.choice([1, 1, 1, 3, 4, 16]))
        x = {key: rng.integers(-9, 9, (steps, 1)).astype(float) for key in chosen}
        x = {key: value[0] for key, value in x.items()} if steps == 1 else x
        what = rng.choice(["push", "push", "push", "numbers", "checkpoint", "end", "write"])
        if what == "numbers":
            x = {f"n{key}": value for key, value in x.items()}
        try:
            y = push(one, x, {key: one.number(key) + 1 if key in one else 3 for key in x if what == "numbers"})
            seen.append([(key, part.tolist()) for key, part in y.items()])
            if what in ("checkpoint", "end"):
                one.checkpoint(chosen[0], "kept") if what == "checkpoint" else one.end(chosen[0])
            if what == "write":
                one.write(chosen[-1], {"sum": [float(steps)]})
        except rs.PushError as error:
            seen.append(str(error))
    keys = one.keys()
    records = [(key, one.count(key), one.number(key), one.peek(key)["sum"].tolist()) for key in keys]
    return seen, sorted(records, key=str), one


@pytest.mark.parametrize(
    "limits", [{}, {"capacity": 6000, "on_evict": lambda records, reason: None}], ids=["unlimited", "limited"]
)
def test_it_equals_the_long_way(limits):
    """Pushes of any keys, in any order and number, between other calls, give exactly what the definition gives."""
    for seed in range(3):
        noted, shifted = Noted(**limits), Shifted(**limits)
        seen, records, one = program(noted, seed)
        expected, kept, other = program(Slow(**limits), seed)
        assert seen == expected
        assert records == kept
        assert list(one.keys()) == list(other.keys())
        assert noted.nbytes == other.store.nbytes
        if not limits:
            assert sum(noted.written) >= 3
            assert program(shifted, seed)[0] != expected


def test_rows_equal_keys():
    """A push of one array gives what a push by key gives, and leaves the same records."""
    for seed in range(3):
        noted = Noted()
        seen, records, one = program(noted, seed, by_rows)
        expected, kept, other = program(Slow(), seed)
        assert seen == expected
        assert records == kept
        assert list(one.keys()) == list(other.keys())
        assert sum(noted.written) >= 3
        assert program(Noted(), seed, shifted_rows)[0] != expected


def test_rows_of_one_group_after_another():
    """Groups that come again find their own rows, also after a session has ended and another one has its row."""
    one, keys = rs.Streamer(Adding(), Noted()), [f"k{at}" for at in range(17)]
    groups = [keys[:5], keys[5:12], keys[:5][::-1], keys[3:8], keys[11:]]
    sums = dict.fromkeys(keys, 0.0)
    rng = np.random.default_rng(7)
    for turn in range(23):
        group = groups[int(rng.integers(len(groups)))]
        x = rng.integers(-9, 9, (len(group), 1)).astype(float)
        if turn in (9, 14):
            ended = group[1]
            one.end(ended)
            one.push({f"new{turn}": np.full(1, 99.0)})  # takes the row that is free
            sums[ended] = 0.0
        for key, value in zip(group, x[:, 0].tolist(), strict=True):
            sums[key] += value
        assert one.push_rows(group, x)[:, 0].tolist() == [sums[key] for key in group]
        group.append(group.pop(0))  # a list of the caller, who may change it


def test_rows_have_the_shape_of_the_push():
    """One step has no time axis, a chunk has one, and a push without keys has no rows."""
    one = rs.Streamer(Adding())
    assert one.push_rows(["a", 7], np.ones((2, 1))).shape == (2, 1)
    assert one.push_rows(np.array(["a", "b"]), np.ones((2, 3, 1)))[:, -1, 0].tolist() == [4.0, 3.0]
    assert one.push_rows([], np.ones((0, 1))).shape == (0, 1)
    assert one.push_rows([], np.ones((0, 3, 1))).shape == (0, 3, 1)
    assert sorted(one.keys(), key=str) == [7, "a", "b"]


def test_rows_that_are_wrong_change_nothing():
    """Keys that come twice and arrays of another length are refused; an error of one key concerns this key alone."""
    one = rs.Streamer(Adding())
    for keys, x, text in (
        (["a", "b", "a"], np.ones((3, 1)), r"come once in a push\. Received: 'a' twice"),
        (["a", "b"], np.ones((3, 1)), r"shape \(keys=2, features\).*Received: shape=\(3, 1\)"),
        ("ab", np.ones((2, 1)), r"`keys` must be a sequence of keys\. Received: str"),
        ([["a"], ["b"]], np.ones((2, 1)), r"`keys` must hold texts and whole numbers"),
        (["a", "b"], [[1.0], [1.0, 2.0]], r"`x` must be an array with a row for each key"),
    ):
        with pytest.raises(rs.DataError, match=text):
            one.push_rows(keys, x)
    assert one.keys() == []
    with pytest.raises(rs.PushError, match=r"1 of 3 keys failed; the others have advanced.*'b'") as caught:
        one.push_rows(["a", "b", "c"], [[1.0], [np.nan], [2.0]])
    assert {key: y.tolist() for key, y in caught.value.results.items()} == {"a": [1.0], "c": [2.0]}
    with pytest.raises(rs.PushError, match=r"1 of 2 keys failed.*'d': with `create=False`"):
        one.push_rows(["a", "d"], np.ones((2, 1)), create=False)
    with pytest.raises(rs.PushError, match=r"2 of 2 keys failed.*input `x` must have shape"):
        one.push_rows(["a", "c"], np.ones((2, 3)))
    assert [one.count("a"), one.count("c")] == [2, 1]


def test_a_change_between_gather_and_scatter_is_seen():
    """If another streamer advances a session while the model computes, both pushes count."""
    store, engine = Noted(), Adding()
    one, other = rs.Streamer(engine, store), rs.Streamer(Adding(), store)
    keys = ["a", "b", "c"]
    one.push({key: np.ones(1) for key in keys})

    def pause():
        engine.pause = None
        other.push({"b": np.full(1, 10.0)})

    engine.pause = pause
    assert one.push({key: np.ones(1) for key in keys})["b"].tolist() == [12.0]
    assert store.written == [True, False]
    assert [one.count(key) for key in keys] == [2, 3, 2]
    assert one.push({key: np.ones(1) for key in keys})["b"].tolist() == [13.0]
    assert store.written == [True, False, True]


def test_what_is_wrong_goes_the_long_way():
    """A state that is not finite, and a model that raises, concern their keys alone, and nothing else changes."""
    store = Noted()
    one, keys = rs.Streamer(Refusing(), store), [f"k{at}" for at in range(5)]
    one.push({key: np.full(1, 1e308 if key == "k3" else 1.0) for key in keys})
    with pytest.raises(rs.PushError, match=r"1 of 5 keys failed.*'k3': the next state must be finite") as caught:
        one.push({key: np.full(1, 1e308 if key == "k3" else 2.0) for key in keys})
    assert {key: y.tolist() for key, y in caught.value.results.items()} == {key: [3.0] for key in keys if key != "k3"}
    with pytest.raises(rs.PushError, match=r"1 of 5 keys failed.*thirteen"):
        one.push({key: np.full(1, 13.0 if key == "k1" else 2.0) for key in keys})
    assert [float(one.peek(key)["sum"][0, 0]) for key in keys] == [5.0, 3.0, 5.0, 1e308, 5.0]
    assert store.written == []
    shared = np.arange(2.0)
    outputs = one.push(dict.fromkeys(keys, shared[:1]))
    outputs["k0"][:] = 99.0  # outputs belong to the caller
    assert one.push(dict.fromkeys(keys, shared[:1]))["k0"].tolist() == [5.0]
    assert store.written == [True, True]


def test_keys_together_are_keys_one_by_one():
    """`encode_all` gives what `encode` gives, and refuses what it refuses."""
    for keys in (["a", "bb"], ["a", 7], [np.int64(7), "x" * 300], ["7", np.str_("b")]):
        assert list(encode_all(keys)) == [encode(key) for key in keys]
    for wrong in ("", "a\x00b", "\x017", 1.5, True, "x" * 501):
        with pytest.raises(rs.DataError, match="The key of a session must be"):
            encode_all(["a", wrong])
