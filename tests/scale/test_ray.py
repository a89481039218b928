"""Scoring on the real Ray: killed actors lose nothing, keys move untouched, a back-fill equals `predict`."""

import os
import runpy
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rnnstate as rs
from rnnstate import stores
from rnnstate.scale.ray import Pool, score_dataset
from rnnstate.scale.shards import shard_of, worker_of
from sums_file import write_sums

pytestmark = pytest.mark.once

KEYS, KILLS = [f"k{at}" for at in range(13)], 4


def value(key, n):
    """Return the n-th input of a key, a whole number, so that sums are exact."""
    return float((7 * n + KEYS.index(key)) % 11)


def total(key, n):
    """Return the sum of the inputs 0 to n of a key."""
    return sum(value(key, at) for at in range(n + 1))


def test_killed_actors_lose_nothing_and_keys_move(ray_cluster, tmp_path):
    """Actors are killed at random moments: each push counts once. Then the keys move to three actors, and to one."""
    path = write_sums(tmp_path / "sums.onnx")
    with Pool(path, tmp_path / "store", workers=2) as pool:
        killed = [pool.processes()]
        killer = threading.Thread(target=kill_at_random, args=(pool, killed))
        killer.start()
        n = 0
        while killer.is_alive() or n < 7:
            assert push(pool, n) == {key: total(key, n) for key in KEYS}
            n += 1
        assert len(killed) == 1 + KILLS
        assert not set(killed[0]) & set(pool.processes())  # both actors are other processes now
        before = content(tmp_path / "store")
        for workers in (3, 1):
            pool.resize(workers)
            assert len(pool.processes()) == pool.workers == workers
            assert content(tmp_path / "store") == before
        assert push(pool, n) == {key: total(key, n) for key in KEYS}
        assert push(pool, n) == {key: total(key, n) for key in KEYS}  # repeated, and not applied again
        with pytest.raises(rs.PushError, match=f"must be {n + 1}, or {n} to repeat"):
            pool.push({"k0": [1.0]}, {"k0": 10**6})
        with pytest.raises(rs.DataError, match=r"must have a number.*'k1'"):
            pool.push({"k0": [1.0], "k1": [1.0]}, {"k0": n + 1})
    assert len({worker_of(shard_of(key), 3) for key in KEYS}) == 3  # the control: the keys were on different actors
    assert content(tmp_path / "store") != before


def kill_at_random(pool, killed):
    """Send SIGKILL to the actors in turn, after random pauses."""
    for at, pause in enumerate(np.random.default_rng(21).uniform(0.02, 0.2, KILLS)):
        time.sleep(pause)
        killed.append(pool.processes()[at % 2])
        os.kill(killed[-1], signal.SIGKILL)


def push(pool, number):
    """Push the input of each key until it is answered, as a client does, always with the same number."""
    for _ in range(20):
        try:
            answer = pool.push({key: np.array([value(key, number)]) for key in KEYS}, dict.fromkeys(KEYS, number))
            return {key: float(y[0]) for key, y in answer.items()}
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


def test_the_example_agrees_with_one_machine(ray_cluster, monkeypatch, capsys):
    """The example compares itself with one machine, and stops the engine."""
    path = Path(__file__).parents[2] / "examples" / "05_ray_scoring.py"
    monkeypatch.setattr("sys.argv", [str(path), "--quick"])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("differ from") == 2
