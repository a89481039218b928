"""Numbered events: which of them advance a state, and that no order, batch or repetition changes the states."""

import importlib.util

import numpy as np
import pytest

import rnnstate as rs
from rnnstate.scale.engines import require
from rnnstate.scale.events import Rules, absorb, expired
from rnnstate.scale.records import LeafBytes, Record
from rnnstate.scale.scorer import Scorer, layout_of
from rnnstate.scale.shards import SHARDS, check_shards, shard_of, worker_of
from sums_file import write_sums

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """Return a model whose output is the sum of its inputs so far."""
    path = write_sums(tmp_path_factory.mktemp("sums") / "sums.onnx")
    return Scorer(layout_of(path, key="key", inputs=["x"], outputs=["sum"]))


def run(scorer, records, events, **rules):
    """Absorb events `(key, number, value)` or `(key, number, value, time)`, and return outputs and statuses."""
    columns = list(zip(*events, strict=True))
    times = np.array(columns[3], float) if len(columns) > 3 else None
    values = np.array(columns[2], float)[:, None]
    given = np.array(columns[0]), np.array(columns[1], np.int64), times, values
    outputs, status, changed = absorb(scorer, Rules(**rules), records, *given)
    records.update(changed)
    return outputs[:, 0].tolist(), status.tolist()


def total(scorer, record):
    """Return the sum that a record holds."""
    return float(LeafBytes(scorer.card).unpack([record.leaves])["sum"][0, 0])


def test_batches_and_order_change_nothing(scorer):
    """Shuffled events in batches of any size, some of them repeated, give the running sums of NumPy."""
    rng = np.random.default_rng(3)
    x = {f"k{at}": rng.integers(1, 9, 23).astype(float) for at in range(7)}
    records, outputs = {}, {}
    begin = 0
    for end in (5, 6, 13, 23):
        events = [(key, n, x[key][n]) for n in range(max(begin - 2, 0), end) for key in x]
        events = [events[at] for at in rng.permutation(len(events))]
        for (key, n, _), y, status in zip(events, *run(scorer, records, events), strict=True):
            assert (status == "repeated") == (n < begin)
            if status != "repeated":
                outputs[key, n] = y
        begin = end
    for key, series in x.items():
        assert [outputs[key, n] for n in range(23)] == np.cumsum(series).tolist()
        assert records[key].number == 22
        assert records[key].count == 23
        assert records[key].repeated == 3 * 2
        assert total(scorer, records[key]) == series.sum()


def test_an_event_before_its_predecessor_changes_nothing(scorer):
    """It is reported and counted, and is absorbed when it is sent again after its predecessor."""
    records = {}
    assert run(scorer, records, [("a", 0, 1.0), ("a", 2, 4.0), ("a", 2, 4.0)])[1] == ["started", "early", "early"]
    assert run(scorer, records, [("a", 3, 8.0)])[1] == ["early"]
    assert (records["a"].early, records["a"].number) == (3, 0)
    y, status = run(scorer, records, [("a", 3, 8.0), ("a", 1, 2.0), ("a", 2, 4.0), ("b", 5, 1.0)])
    assert y[:3] == [15.0, 3.0, 7.0]
    assert status == ["scored", "scored", "scored", "early"]
    assert run(scorer, records, [("b", 5, 1.0)], first=None)[1] == ["started"]
    assert run(scorer, records, [("b", -1, 1.0)])[1] == ["invalid"]


def test_a_gap_starts_again(scorer):
    """After a missing value, and after a value that is not finite in float32, the state is the initial one."""
    records = {}
    y, status = run(scorer, records, [("a", n, v) for n, v in enumerate([1.0, np.nan, 2.0, 3.0, 1e300])])
    assert status == ["started", "gap", "started", "scored", "gap"]
    assert [y[0], y[2], y[3]] == [1.0, 2.0, 5.0]
    assert records["a"] == Record(4, 0, None, scorer.card.model, b"", 2)
    assert run(scorer, records, [("a", 5, 7.0)]) == ([7.0], ["started"])


def test_states_expire_by_event_time(scorer):
    """A pause longer than `expire_after` between two events starts again, within a batch and between batches alike."""
    events = [("a", 0, 1.0, 100.0), ("a", 1, 2.0, 110.0), ("a", 2, 4.0, 120.1), ("a", 3, 8.0, 130.0)]
    whole, one = {}, {}
    expected = ([1.0, 3.0, 4.0, 12.0], ["started", "scored", "started", "scored"])
    assert run(scorer, whole, events, expire_after=10) == expected
    single = [run(scorer, one, [event], expire_after=10) for event in events]
    assert [status for _, (status,) in single] == expected[1]
    assert one == whole
    assert run(scorer, {}, events)[0] == [1.0, 3.0, 7.0, 15.0]  # the control: without the rule nothing expires
    assert expired(Rules(expire_after=10), whole["a"], 140.1)
    assert not expired(Rules(expire_after=10), whole["a"], 140.0)


def test_a_record_of_another_model_is_refused(scorer):
    """The policies are those of `Streamer`: refuse, keep the same fingerprint, or start again."""
    records = {}
    run(scorer, records, [("a", 0, 1.0)])
    fingerprint = scorer.card.fingerprint
    trained = {"a": Record(**{**records["a"].__dict__, "model": f"{fingerprint}-0000000000000000"})}
    other = {"a": Record(**{**records["a"].__dict__, "model": "0000000000000000-0000000000000000"})}
    for given, words in ((trained, "other weights"), (other, "another state")):
        with pytest.raises(rs.SpecMismatchError, match=f"Key 'a'.*{words}"):
            run(scorer, given, [("a", 1, 2.0)])
    with pytest.raises(rs.SpecMismatchError, match="another state"):
        run(scorer, other, [("a", 1, 2.0)], on_other_model="migrate")
    assert run(scorer, trained, [("a", 1, 2.0)], on_other_model="migrate") == ([3.0], ["scored"])
    assert run(scorer, other, [("a", 1, 2.0)], on_other_model="restart") == ([2.0], ["started"])
    with pytest.raises(rs.DataError, match="on_other_model"):
        Rules(on_other_model="keep")


def test_shards_are_balanced_and_whole():
    """Shards are as even as those of a random hash; workers have ranges of equal size; another number is refused."""
    draws = np.random.default_rng(5).integers(0, 2**62, 100_000).tolist()
    for keys in ([f"sensor-{at}" for at in range(100_000)], range(100_000), draws, [f"{at:x}" for at in draws]):
        loads = np.bincount([shard_of(key) for key in keys], minlength=SHARDS)
        assert loads.var() / loads.mean() < 1.1  # 1 for a Poisson distribution
    for workers in (1, 3, 7, 4096):
        sizes = np.bincount([worker_of(shard, workers) for shard in range(SHARDS)])
        assert len(sizes) == workers
        assert sizes.max() - sizes.min() <= 1
    with pytest.raises(rs.StoreError, match=r"4096 shards\. Received: 1024"):
        check_shards(1024, "The store")


@pytest.mark.parametrize(("engine", "extra"), [("pyspark", "spark"), ("ray", "ray")])
def test_a_missing_engine_is_named(engine, extra, monkeypatch):
    """The message says how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"needs {engine}. Install it with: pip install \"rnnstate\[{extra}\]\""):
        require(engine)


def test_a_file_that_is_no_model_is_refused(tmp_path, scorer):
    """The message says what is missing, before an engine starts."""
    with pytest.raises(rs.DataError, match="must be a RUN, or an ONNX file"):
        layout_of(tmp_path / "none.onnx", key="key", inputs=["x"])
    with pytest.raises(rs.DataError, match="`key` and `inputs` must be given"):
        layout_of(scorer.layout.path)
    with pytest.raises(rs.DataError, match="1 features and 1 outputs"):
        layout_of(scorer.layout.path, key="key", inputs=["x", "z"])
