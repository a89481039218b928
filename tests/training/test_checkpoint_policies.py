"""Law 6 under every policy: drawn lengths, orders, burn-in, gradients over windows, known values, several outputs.

As a script, `python test_checkpoint_policies.py CASE FOLDER RESULT [CALL NUMBER EPOCH]`, it trains one case with checkpoints
in FOLDER, is ended by SIGKILL at the given call, or leaves its result in RESULT.
"""

import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from killable import Killed, Killer, differences, result

LENGTHS = (23, 19, 13)
EPOCHS = 2


def two_outputs():
    """A network with dropout, a series and a code per step as inputs, and two outputs by name."""
    inputs = {"series": keras.Input((None, 2), name="series"), "kind": keras.Input((None,), dtype="int32", name="kind")}
    kind = layers.Embedding(5, 2, name="embedding")(inputs["kind"])
    x = layers.LSTM(3, dropout=0.2, return_sequences=True, name="lstm")(layers.Concatenate()([inputs["series"], kind]))
    return keras.Model(inputs, {"mean": layers.Dense(1, name="mean")(x), "spread": layers.Dense(2, name="spread")(x)})


def one_output():
    """A network with dropout, batch normalization and two layers with a memory."""
    return keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.LSTM(3, dropout=0.2, return_sequences=True, name="lstm"),
            layers.BatchNormalization(),
            layers.GRU(2, return_sequences=True, name="gru"),
            layers.Dense(1),
        ]
    )


CASES = {
    "vary": {"vary": rs.Vary(low=2, std=1.5, half=0.3), "seed": 3},
    "shuffled, burn-in": {"order": "shuffled", "burn_in": 3, "seed": 4},
    "back, gaps": {"back": 8, "gap": 2.0},
    "buckets, observed, resets": {"order": "buckets"},
    "vary, observed, several outputs": {"vary": rs.Vary(low=3, std=1.0), "seed": 5},
    "shuffled, back, several outputs": {"order": "shuffled", "back": 10, "seed": 6},
}


def data_of(case):
    """Return windows of a case, and whether values are observed."""
    x = {f"key{i}": nets.values(n, 2, seed=i) for i, n in enumerate(LENGTHS)}
    y = {key: nets.values(len(part), 1, seed=20 + i) for i, (key, part) in enumerate(x.items())}
    arguments = dict(CASES[case])
    if "observed" in case:
        arguments["observed"] = {key: nets.values(len(part), 3, seed=40 + i) for i, (key, part) in enumerate(x.items())}
    if "resets" in case:
        arguments["resets"] = {key: np.arange(len(part)) % 9 == 7 for key, part in x.items()}
    if "gap" in case:
        arguments["gaps"] = {key: 3 * (np.arange(len(part)) == 11) for key, part in x.items()}
    if "several" in case:
        x = {key: {"series": part, "kind": np.arange(len(part)) % 5} for key, part in x.items()}
        y = {key: {"mean": part, "spread": np.repeat(part, 2, axis=1)} for key, part in y.items()}
    return lambda: rs.Windows(x, y, length=5, batch_size=2, **arguments)


def build(case):
    """Return a compiled model for a case."""
    keras.utils.set_random_seed(11)
    start = rs.initial.Observed(units=2) if "observed" in case else rs.initial.Learned(noise=0.1, seed=5)
    model = rs.StatefulModel(two_outputs() if "several" in case else one_output(), initial_state=start)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def train(case, folder, killer=None, model=None, **policy):
    """Train a case with checkpoints after every second batch, validation and a refresh of stale states included."""
    make = data_of(case)
    windows = make()
    model = model or build(case)
    history = model.fit(
        windows,
        validation_data=make(),
        epochs=EPOCHS,
        verbose=0,
        callbacks=[killer or Killer(), rs.Staleness(make(), refresh=True)],
        checkpoint=rs.Checkpoint(folder, **{"every_batches": 2, **policy}),
    )
    return result(model, history)


@cache
def whole(case, scratch):
    """Return the model of an uninterrupted run, its result, and its first checkpoint."""
    model = build(case)
    expected = train(case, scratch / "whole", model=model, keep=100)
    return model, expected, scratch / "whole" / "checkpoint-00000000.safetensors"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Return one folder for all uninterrupted runs, named by case."""
    return tmp_path_factory.mktemp("policies")


def _last(case):
    return len(data_of(case)()) - 1


# Most policies decide in NumPy which windows come next. Those whose steps differ from backend to backend run on each.
EVERYWHERE = ("back, gaps", "buckets, observed, resets", "shuffled, back, several outputs")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in EVERYWHERE else pytest.mark.once) for case in CASES]
)
def test_a_run_that_is_stopped_equals_the_whole_run(case, backend, scratch, tmp_path):
    """Stopped in the middle of either epoch and in validation, it ends with the same weights, states and history.

    PyTorch stops each run at all three places, one after the other. The other backends take one place for each case in turn.
    """
    model, expected, start = whole(case, scratch / case)
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(start, run)
    places = [("on_train_batch_begin", 3, 0), ("on_test_batch_begin", 1, 0), ("on_train_batch_end", _last(case) - 1, 1)]
    for at in places if backend == "torch" else [places[list(CASES).index(case) % 3]]:
        with pytest.raises(Killed):
            train(case, run, Killer(at), model=model)
    assert differences(train(case, run, model=model), expected) == []


@pytest.mark.once
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_policy_is_checked_when_it_is_made(value):
    """Counts are whole numbers of at least 1, and seconds are positive."""
    with pytest.raises(ValueError, match=f"`every_batches` must be a whole number.*every_batches={value}"):
        rs.Checkpoint("run", every_batches=value)
    with pytest.raises(ValueError, match="`keep` must be"):
        rs.Checkpoint("run", keep=value)
    with pytest.raises(ValueError, match="`every_seconds` must be positive"):
        rs.Checkpoint("run", every_seconds=0)


@pytest.mark.once
def test_a_process_that_sigkill_ended_goes_on(scratch, tmp_path, warm_python):
    """Two processes, the first ended by SIGKILL in the second epoch, give what one gives."""
    case = "vary, observed, several outputs"
    out = tmp_path / "result.npz"
    command = [warm_python, __file__, case, str(tmp_path / "run"), str(out)]
    paths = [*sys.path, os.environ.get("PYTHONPATH", "")]
    options = {"capture_output": True, "check": False, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}}
    first = subprocess.run([*command, "on_train_batch_begin", "4", "1"], **options)
    assert first.returncode == -signal.SIGKILL, first.stderr
    second = subprocess.run(command, **options)
    assert second.returncode == 0, second.stderr
    with np.load(out) as resumed:
        assert differences(dict(resumed), whole(case, scratch / case)[1]) == []


@pytest.mark.once
def test_another_seed_of_drawn_lengths_is_another_run(scratch, tmp_path, monkeypatch):
    """Negative control: what is drawn belongs to the run, so a checkpoint of other draws is refused."""
    case = "vary"
    model, _, start = whole(case, scratch / case)
    shutil.copy(start, tmp_path)
    monkeypatch.setitem(CASES, case, {**CASES[case], "seed": 9})
    with pytest.raises(rs.SpecMismatchError, match=r"must be of the same run\. Expected: data="):
        train(case, tmp_path, model=model)


if __name__ == "__main__":
    case, folder, out, *at = sys.argv[1:]
    stop = (at[0], int(at[1]), int(at[2])) if at else None
    np.savez(out, **train(case, Path(folder), Killer(stop, lambda: os.kill(os.getpid(), signal.SIGKILL))))
