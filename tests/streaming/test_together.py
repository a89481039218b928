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


def program(store, seed):
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
            y = one.push(x, numbers={key: one.number(key) + 1 if key in one else 3 for key in x if what == "numbers"})
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
