"""`StateLog`: shares of windows by their start, and statistics of the carried states."""

import csv
import struct
import sys
import types

import keras
import numpy as np
import pytest

import nets
import policies
import rnnstate as rs

pytestmark = pytest.mark.once


def read(path):
    """Return the lines of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_statistics_are_those_of_the_carried_states(tmp_path):
    """The last lines agree with `model.states.read`. The lines of the first epoch differ, and `append` keeps them."""
    model = nets.make(nets.two_layers)
    x, y = policies.data_of(model, (9, 5))
    windows = rs.Windows(x, y, length=3, batch_size=2)
    log = rs.StateLog(windows, csv=tmp_path / "states.csv")
    policies.trained(model, windows, 2, 0.5, callbacks=[log])
    states, lines = model.states.read(windows.keys).numpy(), read(tmp_path / "states.csv")
    last = {line["leaf"]: line for line in lines if line["epoch"] == "2"}
    assert list(last) == list(states)
    for leaf, values in states.items():
        found = [float(last[leaf][name]) for name in ("rows", "mean", "std", "min", "max", "not_finite")]
        expected = [2, values.mean(), values.std(), values.min(), values.max(), 0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        bins = [int(last[leaf][f"bin_{number}"]) for number in range(1, 21)]
        assert bins == np.histogram(values.astype(np.float64), 20)[0].tolist()
    assert lines[0]["mean"] != lines[len(states)]["mean"]
    again = rs.StateLog(windows, csv=tmp_path / "states.csv", every=2, append=True)
    model.fit(windows, callbacks=[again], epochs=3, verbose=0)
    assert read(tmp_path / "states.csv")[: len(lines)] == lines
    assert len(read(tmp_path / "states.csv")) == len(lines) + len(states)


def test_short_epochs_are_written_together(tmp_path, monkeypatch):
    """The lines are those that each epoch writes alone. The first epoch does not wait."""
    written = []
    for patience in (0.0, 60.0):
        monkeypatch.setattr("rnnstate.insight.state_log._PATIENCE", patience)
        model = nets.make(nets.two_layers)
        x, y = policies.data_of(model, (9, 5))
        windows = rs.Windows(x, y, length=3, batch_size=2)
        path = tmp_path / f"{patience}.csv"
        seen = []
        count = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_, p=path, s=seen: s.append(len(read(p))))
        policies.trained(model, windows, 4, 0.5, callbacks=[rs.StateLog(windows, csv=path), count])
        written.append((seen, path.read_text()))
    leaves = len(model.state_spec)
    assert [seen for seen, _ in written] == [[leaves * epoch for epoch in (1, 2, 3, 4)], [leaves] * 4]
    assert written[0][1] == written[1][1]
    assert len(read(path)) == 4 * leaves


def test_an_interrupted_training_loses_no_line(tmp_path, monkeypatch):
    """The epochs before Ctrl-C are written when Python ends, and before the lines of the next training."""
    monkeypatch.setattr("rnnstate.insight.state_log._PATIENCE", 60.0)
    at_exit = []
    forget = lambda function: function in at_exit and at_exit.remove(function)  # noqa: E731
    stand_in = types.SimpleNamespace(register=at_exit.append, unregister=forget)
    monkeypatch.setattr("rnnstate.insight.state_log.atexit", stand_in)

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    stop = keras.callbacks.LambdaCallback(on_epoch_end=interrupt)
    model = nets.make(nets.small)
    x, y = policies.data_of(model, (9, 5))
    windows = rs.Windows(x, y, length=3, batch_size=2)
    model.compile("sgd", "mse")
    path, leaves = tmp_path / "states.csv", len(model.state_spec)
    log = rs.StateLog(windows, csv=path, tensorboard=tmp_path / "logs", append=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(windows, epochs=5, callbacks=[log, stop], verbose=0)
    assert len(read(path)) == leaves  # the first epoch did not wait
    at_exit[0]()
    assert [line["epoch"] for line in read(path)[::leaves]] == ["1", "2", "3"]
    with pytest.raises(KeyboardInterrupt):
        model.fit(windows, epochs=5, callbacks=[log, stop], verbose=0)
    assert len(at_exit) == 1
    model.fit(windows, epochs=1, callbacks=[log], verbose=0)
    assert [line["epoch"] for line in read(path)[::leaves]] == ["1", "2", "3", "1", "2", "3", "1"]
    assert at_exit == []


@pytest.mark.parametrize(
    ("how", "shares"),
    [
        ({}, (5, 0, 2)),
        ({"resets": [np.arange(9) == 4, np.zeros(11, bool)]}, (4, 1, 2)),
        ({"gaps": [7 * (np.arange(9) == 3), np.zeros(11, int)]}, (4, 1, 2)),
        ({"gaps": [7 * (np.arange(9) == 3), np.zeros(11, int)], "gap": 3.0}, (5, 0, 2)),
    ],
)
def test_shares_of_starts(how, shares):
    """Of seven windows two are the first of their sequence. A flag, or a gap that erases the state, is a reset."""
    windows = rs.Windows([nets.values(9, 2), nets.values(11, 2)], length=3, batch_size=2, **how)
    assert list(windows.starts()) == ["carried", "reset", "fresh"]
    np.testing.assert_allclose(list(windows.starts().values()), np.array(shares) / 7)


def test_events_for_tensorboard(tmp_path):
    """The folder holds scalars and a histogram for each leaf, with the values of the CSV file."""
    from tensorboardX.proto.event_pb2 import Event

    model = nets.make(nets.small)
    x, y = policies.data_of(model, (9, 5))
    windows = rs.Windows(x, y, length=3, batch_size=2)
    log = rs.StateLog(windows, csv=tmp_path / "states.csv", tensorboard=tmp_path / "logs")
    policies.trained(model, windows, 1, 0.5, callbacks=[log])
    found = {}
    for path in (tmp_path / "logs").iterdir():
        content, place = path.read_bytes(), 0
        while place < len(content):  # length (8 bytes), its checksum (4), the event, its checksum (4)
            (size,) = struct.unpack("<Q", content[place : place + 8])
            event = Event.FromString(content[place + 12 : place + 12 + size])
            found |= {(value.tag, event.step): value for value in event.summary.value}
            place += 16 + size
    for line in read(tmp_path / "states.csv"):
        scalar = found[f"state/{line['leaf']}/mean", 1].simple_value
        assert scalar == pytest.approx(float(line["mean"]), abs=1e-6)
        histogram = found[f"state/{line['leaf']}", 1].histo
        assert histogram.num == np.prod(model.states.read(windows.keys)[line["leaf"]].shape)
    assert found["windows/carried", 1].simple_value == pytest.approx(3 / 5)


def test_trackers_get_the_same_numbers(tmp_path, monkeypatch):
    """MLflow gets all numbers with the epoch as step; Weights & Biases gets histograms too. Both stand in here."""
    sent = {"mlflow": [], "wandb": []}
    mlflow = types.SimpleNamespace(log_metrics=lambda values, step: sent["mlflow"].append((step, values)))
    wandb = types.SimpleNamespace(run=object(), log=sent["wandb"].append, Histogram=lambda np_histogram: np_histogram)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    model = nets.make(nets.small)
    x, y = policies.data_of(model, (9, 5))
    windows = rs.Windows(x, y, length=3, batch_size=2)
    log = rs.StateLog(windows, csv=tmp_path / "states.csv", track=["mlflow", "wandb"])
    policies.trained(model, windows, 2, 0.5, callbacks=[log])
    assert [step for step, _ in sent["mlflow"]] == [call["epoch"] for call in sent["wandb"]] == [1, 2]
    for line in read(tmp_path / "states.csv"):
        numbers, all_of_it = sent["mlflow"][int(line["epoch"]) - 1][1], sent["wandb"][int(line["epoch"]) - 1]
        name = f"state/{line['leaf']}"
        assert numbers[f"{name}/mean"] == all_of_it[f"{name}/mean"] == pytest.approx(float(line["mean"]), abs=1e-12)
        assert all_of_it[name][0].tolist() == [int(line[f"bin_{number}"]) for number in range(1, 21)]
    assert sent["mlflow"][0][1]["windows/carried"] == pytest.approx(3 / 5)


def test_trackers_that_cannot_be_used_are_refused(monkeypatch):
    """An unknown name, a missing package and a run that has not begun are named before anything is trained."""
    windows = rs.Windows(nets.values(2, 9, 2), length=3, batch_size=2)
    with pytest.raises(rs.DataError, match=r"'mlflow', 'wandb'. Received: 'clearml'"):
        rs.StateLog(windows, track="clearml")
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(run=None))
    with pytest.raises(rs.DataError, match=r"must have a run. Received: none. Call `wandb.init"):
        rs.StateLog(windows, track="wandb")
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(rs.DataError, match=f"Received: no such package. Run `pip install {name}`"):
            rs.StateLog(windows, track=name)


def test_wrong_use_is_refused(tmp_path, monkeypatch):
    """Other data than `Windows`, and a missing package, are refused before anything is trained."""
    with pytest.raises(rs.DataError, match=r"`windows` must be `rnnstate.Windows`. Received: ndarray"):
        rs.StateLog(np.ones((2, 3)))
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    windows = rs.Windows(nets.values(2, 9, 2), length=3, batch_size=2)
    with pytest.raises(rs.DataError, match="`every` must be"):
        rs.StateLog(windows, every=0)
    with pytest.raises(rs.DataError, match=r"need tensorboardX. Received: no such package. Run `pip install"):
        rs.StateLog(windows, tensorboard=tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
