"""Scoring on the real Ray: killed actors lose nothing, keys move untouched, a back-fill equals `predict`."""

import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest

import rnnstate as rs
from rnnstate import stores
from rnnstate.scale.ray import Pool, score_dataset
from rnnstate.scale.shards import shard_of, worker_of
from sums_file import write_sums

pytestmark = pytest.mark.once

KEYS, PUSHES = [f"k{at}" for at in range(13)], 29


def test_killed_actors_lose_nothing_and_keys_move(ray_cluster, tmp_path):
    """Actors are killed at random moments: each push counts once. Then the keys move to three actors, and back to one."""
    path = write_sums(tmp_path / "sums.onnx")
    rng = np.random.default_rng(21)
    x = {key: rng.integers(1, 9, (PUSHES + 2, 1)).astype(float) for key in KEYS}
    with Pool(path, tmp_path / "store", workers=2) as pool:
        stop = threading.Event()
        killer = threading.Thread(target=kill_at_random, args=(pool, stop, rng.uniform(0.02, 0.2, 5)))
        pool.push({key: x[key][0] for key in KEYS}, dict.fromkeys(KEYS, 0))
        killer.start()
        outputs = [push(pool, {key: x[key][n] for key in KEYS}, n) for n in range(1, PUSHES)]
        stop.set()
        killer.join()
        for key in KEYS:
            assert [y[key][0] for y in outputs] == x[key].cumsum()[1:PUSHES].tolist()
        before = content(tmp_path / "store")
        for workers in (3, 1):
            pool.resize(workers)
            assert len(pool.processes()) == pool.workers == workers
            assert content(tmp_path / "store") == before
        y = pool.push({key: x[key][PUSHES] for key in KEYS}, dict.fromkeys(KEYS, PUSHES))
        assert {key: value[0] for key, value in y.items()} == {key: x[key][: PUSHES + 1].sum() for key in KEYS}
        with pytest.raises(rs.PushError, match="must be 30, or 29 to repeat"):
            pool.push({"k0": x["k0"][0]}, {"k0": 77})
        with pytest.raises(rs.DataError, match=r"must have a number.*'k1'"):
            pool.push({"k0": x["k0"][0], "k1": x["k1"][0]}, {"k0": 30})
    moved = {worker_of(shard_of(key), 3) for key in KEYS}
    assert len(moved) == 3  # the control: the keys were on different actors
    assert content(tmp_path / "store") != before


def kill_at_random(pool, stop, pauses):
    """Send SIGKILL to an actor after each pause."""
    for at, pause in enumerate(pauses):
        if stop.wait(pause):
            return
        os.kill(pool.processes()[at % 2], signal.SIGKILL)


def push(pool, x, number):
    """Push until it is answered, as a client does, always with the same number."""
    for _ in range(20):
        try:
            return pool.push(x, dict.fromkeys(x, number))
        except rs.PushError as error:
            if not all(isinstance(one, rs.StoreError) for one in error.errors.values()):
                raise
    raise AssertionError("no answer after 20 pushes")


def content(folder):
    """Return what each record of a store holds, with the time of its last change."""
    store = stores.LmdbStore(folder)
    records = store.read(sorted(store.keys())).records
    store.close()
    fields = records.count, records.number, records.updated, records.leaves["sum"][:, 0]
    return {key: row for key, *row in zip(records.keys, *(field.tolist() for field in fields), strict=True)}


def test_a_dataset_equals_predict(ray_cluster, run, tmp_path):
    """Rows in any order, over Parquet, give the predictions of the RUN on one machine, with its gaps and its kept states."""
    import ray.data

    model, later = run
    expected = rs.load_run(model).predict(pd.read_csv(later)).sort_values(["house", "at"])
    pd.read_csv(later).sample(frac=1, random_state=1).to_parquet(tmp_path / "later.parquet", index=False)
    dataset = ray.data.read_parquet(str(tmp_path / "later.parquet"))
    scored = score_dataset(dataset, model, groups=3).to_pandas().sort_values(["house", "at"])
    assert scored[["house", "at"]].values.tolist() == expected[["house", "at"]].values.tolist()
    ours, theirs = scored.load_in_1.to_numpy(float), expected.load_in_1.to_numpy(float)
    assert np.isnan(ours).sum() == np.isnan(theirs).sum() == 3
    assert np.nanmax(abs(ours - theirs)) < 1e-5 * np.nanstd(theirs)
    with pytest.raises(rs.DataError, match="none named `load`"):
        score_dataset(dataset.drop_columns(["load"]), model)
