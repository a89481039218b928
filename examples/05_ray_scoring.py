"""Score many keys on Ray: a table in the past, then live sources on actors, one of which is killed.

1. Train a RUN on two houses, on this machine.
2. Back-fill: score a Parquet file of other houses on Ray. The values equal the values of `rnnstate predict`.
3. Live: push the same rows step by step to a pool of two actors over an LMDB store. One actor is killed on the way, and
   the pool grows to three actors. The values are those of one pass on this machine.

Run it: `pip install "rnnstate[ray]"`, then `python examples/05_ray_scoring.py` (`--quick` for a small one).
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import ray
import ray.data

import rnnstate as rs
from rnnstate.cli.app import main as rnnstate
from rnnstate.scale.ray import Pool, score_dataset


def table(houses, steps):
    """Return a table of the mean power of some houses, one row for each quarter of an hour."""
    at = pd.date_range("2026-01-01", periods=steps, freq="15min", unit="us")
    parts = []
    for house in houses:
        rng = np.random.default_rng([house, 5])
        load = 2 + np.sin(np.arange(steps) / (5 + house % 7)) + 0.1 * rng.normal(size=steps)
        parts.append(pd.DataFrame({"house": f"house {house}", "at": at, "load": load}))
    return pd.concat(parts, ignore_index=True)


def train(folder, epochs):
    """Train a RUN on two houses and return its folder."""
    table(range(2), 200).to_parquet(folder / "train.parquet")
    words = "--target load --key house --time at --window 16 --layers gru:4 --quiet --no-report"
    words += f" --learning-rate 0.03 --epochs {epochs}"
    status = rnnstate(["train", str(folder / "train.parquet"), *words.split(), "--out", str(folder / "power.run")])
    assert status == 0
    return folder / "power.run"


def push_until_answered(pool, x, number):
    """Push as a client does: again, with the same number, if an actor could not answer."""
    while True:
        try:
            return pool.push(x, dict.fromkeys(x, number))
        except rs.PushError as error:
            print(f"  again: {error}")


def live(pool, series):
    """Push all series step by step, kill an actor and add another one on the way, and return the predictions by key."""
    steps = len(next(iter(series.values())))
    outputs = {house: [] for house in series}
    for number in range(steps):
        if number == steps // 3:
            os.kill(pool.processes()[0], signal.SIGKILL)
        if number == 2 * steps // 3:
            pool.resize(3)
        x = {house: values[number] for house, values in series.items()}
        for house, y in push_until_answered(pool, x, number).items():
            outputs[house].append(y)
    return {house: np.concatenate(values) for house, values in outputs.items()}


def main():
    """Run all three parts."""
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = train(folder, 1 if quick else 30)
        rows = table(range(10, 12 if quick else 30), 60)
        expected = rs.load_run(model).predict(rows).sort_values(["house", "at"])
        if not ray.is_initialized():
            ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27, log_to_driver=False)

        rows.to_parquet(folder / "rows.parquet", index=False)
        scored = score_dataset(ray.data.read_parquet(str(folder / "rows.parquet")), model, groups=4).to_pandas()
        scored = scored.sort_values(["house", "at"])
        difference = np.abs(scored["load_in_1"].to_numpy(float) - expected["load_in_1"].to_numpy(float)).max()
        print(f"back-fill: {len(scored):,} rows differ from `rnnstate predict` by at most {difference:.0e}")
        assert difference < 1e-5

        series = {house: part[["load"]].to_numpy() for house, part in rows.groupby("house")}
        with Pool(model, folder / "sessions", workers=2) as pool:
            outputs = live(pool, series)
        whole = {house: part["load_in_1"].to_numpy(float) for house, part in expected.groupby("house")}
        difference = max(np.abs(outputs[house] - whole[house]).max() for house in whole)
        print(
            f"live: {len(rows):,} pushes over a kill and a new actor differ from one machine by at most {difference:.0e}"
        )
        assert difference < 1e-5
        ray.shutdown()


if __name__ == "__main__":
    main()
