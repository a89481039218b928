"""`forecast`, `predict --update` and `load_run`: the steps after the data, and RUNs that move along with the data."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import rnnstate as rs
from forecasting import rows, write_rows
from rnnstate import durable
from rnnstate.cli.app import main
from rnnstate.forecasting.run_folder import read_run
from rnnstate.forecasting.series import read_series
from rnnstate.forecasting.tablefiles import read_table

pytestmark = pytest.mark.once

STEPS = 11


@pytest.fixture
def folder(trained, tmp_path, monkeypatch) -> Path:
    """A copy of RUN, with data of two days; house `b` has fewer rows on the first day."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "RUN", "RUN")
    write_rows(Path("day1.csv"), rows(61, 70, "a") + rows(61, 66, "b"))
    write_rows(Path("day2.csv"), rows(70, 80, "a") + rows(66, 80, "b"))
    write_rows(Path("both.csv"), rows(61, 80, "a") + rows(61, 80, "b"))
    return tmp_path


def read(path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def loads(found: list[dict[str, str]], house: str, column: str = "load") -> np.ndarray:
    """Return the predictions for a house."""
    return np.array([float(row[column]) for row in found if row["house"] == house])


def by_hand(run, series, steps: int, carried: bool = True) -> np.ndarray:
    """Return the forecast of one house through `step` over its data and `rollout` after them."""
    row = run.end.index[series.key]
    state = run.end.state.rows([row]) if carried else run.model.initial_state(1)
    x = run.scaling.scale(series.values)[None].astype("float32")
    y, state = run.model.step(x, state)
    first = np.asarray(rs.State({"y": y}).numpy()["y"])[:, -1]
    warmth = np.repeat(x[:, -1:, 1:], steps - 1, axis=1)
    later, _ = run.model.rollout(first, state, steps - 1, inputs=warmth)
    later = np.asarray(rs.State({"y": later}).numpy()["y"])
    return run.scaling.unscale(np.concatenate([first[:, None], later], axis=1).astype("float64"))[0, :, 0]


def test_forecast_is_a_rollout(folder, capsys) -> None:
    """The forecast of each key equals `rollout` from the last state of this key, in the units and times of the data."""
    arguments = ["forecast", "RUN", "day1.csv", "--steps", str(STEPS)]
    assert main([*arguments, "-o", "out.csv"]) == 2
    assert "needs future values of `warmth`, which RUN does not predict. Received: 11 steps." in capsys.readouterr().err
    assert main([*arguments, "--hold", "-o", "out.csv"]) == 0
    assert "Wrote out.csv: 11 steps for each of 2 keys.\n" in capsys.readouterr().err
    found, run = read("out.csv"), read_run(Path("RUN"))
    assert list(found[0]) == ["house", "at", "load"]
    for series in read_series(read_table("day1.csv"), run.settings.columns, run.end.steps):
        expected = by_hand(run, series, STEPS)
        np.testing.assert_allclose(loads(found, series.key), expected, rtol=0, atol=1e-5)
        assert np.abs(by_hand(run, series, STEPS, carried=False) - expected).max() > 1e-4
        times = np.array([row["at"] for row in found if row["house"] == series.key], dtype="datetime64[m]")
        end = {"a": 70, "b": 66}[series.key]
        assert times.tolist() == [
            np.datetime64("2020-02-28T22:00") + np.timedelta64(15 * quarter, "m") for quarter in range(end, end + STEPS)
        ]


def test_update_is_one_pass(folder, capsys) -> None:
    """Predictions of day 1 with `--update`, then of day 2, equal those of both days at once; so does the forecast."""
    assert main(["predict", "RUN", "both.csv", "-o", "both_out.csv"]) == 0
    assert main(["forecast", "RUN", "both.csv", "--steps", "5", "--hold", "-o", "ahead_both.csv"]) == 0
    before = Path("RUN/states.safetensors").read_bytes()
    assert main(["predict", "RUN", "day2.csv", "-o", "fresh.csv"]) == 0
    assert Path("RUN/states.safetensors").read_bytes() == before
    for day in ("day1", "day2"):
        assert main(["predict", "RUN", f"{day}.csv", "-o", f"{day}_out.csv", "--update"]) == 0
        assert "2 keys continue" in capsys.readouterr().err
    assert main(["forecast", "RUN", "--steps", "5", "--hold", "-o", "ahead.csv"]) == 0
    both, fresh = read("both_out.csv"), read("fresh.csv")
    for house in "ab":
        halves = np.concatenate([loads(read(f"{day}_out.csv"), house, "load_in_1") for day in ("day1", "day2")])
        whole = loads(both, house, "load_in_1")
        np.testing.assert_allclose(halves, whole, rtol=0, atol=1e-5)
        # Negative control: without --update, day 2 starts fresh.
        alone = loads(fresh, house, "load_in_1")
        assert np.abs(alone - whole[-len(alone) :])[0] > 1e-3
        np.testing.assert_allclose(
            loads(read("ahead.csv"), house), loads(read("ahead_both.csv"), house), rtol=0, atol=1e-5
        )
    assert [row["at"] for row in read("ahead.csv")] == [row["at"] for row in read("ahead_both.csv")]


def test_update_refuses_what_it_has_seen(folder, capsys) -> None:
    """Data that overlap or come before are refused before anything is written; so is a RUN without times."""
    assert main(["predict", "RUN", "day1.csv", "-o", "one.csv", "--update"]) == 0
    kept = Path("RUN/states.safetensors").read_bytes()
    capsys.readouterr()
    write_rows(Path("early.csv"), rows(10, 20, "a"))
    for data in ("day1.csv", "early.csv", "both.csv"):
        assert main(["predict", "RUN", data, "-o", "two.csv", "--update"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(
            "Error: `--update` takes data that come after the kept data. Received: key 'a' from 2020"
        )
        assert error.count("\n") == 1
    assert not Path("two.csv").exists()
    assert Path("RUN/states.safetensors").read_bytes() == kept


def test_update_keeps_other_keys_and_gaps(folder, capsys) -> None:
    """Keys without new data stay, new keys come, and a key whose new rows are empty starts fresh afterwards."""
    empty = [f"{line.rsplit(',', 2)[0]},,1" for line in rows(61, 64, "b")]
    write_rows(Path("mixed.csv"), empty + rows(61, 64, "c"))
    assert main(["predict", "RUN", "mixed.csv", "-o", "out.csv", "--update"]) == 0
    places = {place.key: place for place in read_run(Path("RUN")).end.places}
    assert sorted(places) == ["a", "b", "c"]
    assert (places["a"].open, places["b"].open, places["c"].open) == (True, False, True)
    assert (places["b"].time, places["b"].until) == ("2020-02-29 13:00:00", "2020-02-29 13:45:00")
    write_rows(Path("next.csv"), rows(61, 66, "a") + rows(64, 66, "b") + rows(64, 66, "c"))
    capsys.readouterr()
    assert main(["predict", "RUN", "next.csv", "-o", "next_out.csv"]) == 0
    assert (
        "2 keys continue from the kept states; 1 starts fresh: `b` (the kept data end in a gap)"
        in capsys.readouterr().err
    )


def test_an_interrupted_update(folder, monkeypatch, capsys) -> None:
    """An update that ends before the rename leaves the old RUN, so the command can be run again."""
    old, replace = Path("RUN/states.safetensors").read_bytes(), durable.os.replace

    def stop(source, target) -> None:
        if Path(target).name == "states.safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "replace", stop)
        assert main(["predict", "RUN", "day1.csv", "-o", "out.csv", "--update"]) == 130
    assert Path("RUN/states.safetensors").read_bytes() == old
    assert sorted(path.name for path in Path("RUN").iterdir()) == sorted(
        path.name for path in (Path("RUN")).glob("[!.]*")
    )
    assert main(["predict", "RUN", "day1.csv", "-o", "out.csv", "--update", "--force"]) == 0


def test_load_run_predicts_what_the_command_line_predicts(folder) -> None:
    """A pandas frame, a polars frame and a file give the values of `predict` and `forecast`, as frames of their library."""
    import pandas as pd
    import polars as pl

    main(["predict", "RUN", "day1.csv", "-o", "out.csv", "--quiet"])
    main(["forecast", "RUN", "day1.csv", "--steps", "3", "--hold", "-o", "ahead.csv", "--quiet"])
    expected, ahead = read("out.csv"), read("ahead.csv")
    run = rs.load_run("RUN")
    assert run.keys == {"a": "2020-02-29 13:00:00", "b": "2020-02-29 13:00:00"}
    frames = (pd.read_csv("day1.csv", parse_dates=["at"]), pl.read_csv("day1.csv", try_parse_dates=True), "day1.csv")
    for frame in frames:
        found = run.predict(frame)
        assert type(found).__module__.split(".")[0] == (
            "pyarrow" if frame is frames[2] else type(frame).__module__.split(".")[0]
        )
        column = np.asarray(found["load_in_1"])
        np.testing.assert_allclose(column, [float(row["load_in_1"]) for row in expected], rtol=1e-6)
        found = run.forecast(steps=3, frame=frame, hold=True)
        np.testing.assert_allclose(np.asarray(found["load"]), [float(row["load"]) for row in ahead], rtol=1e-6)
        times = np.asarray(found["at"]).astype("datetime64[m]")
        assert times.tolist() == [np.datetime64(row["at"], "m") for row in ahead]
    assert [score.target for score in run.evaluate("both.csv")] == ["load"] * 3
    run.predict("day1.csv", update=True)
    halves = np.asarray(run.predict("day2.csv")["load_in_1"])
    whole = np.asarray(rs.load_run("RUN").predict("day2.csv")["load_in_1"])
    np.testing.assert_array_equal(halves, whole)
    with pytest.raises(rs.DataError, match=r"`--update` takes data that come after the kept data. Received: key 'a'"):
        run.predict("day1.csv", update=True)


def test_plot(folder, monkeypatch, capsys) -> None:
    """`--plot` draws a picture; without matplotlib one line says what to install, and nothing is written."""
    arguments = ["forecast", "RUN", "day1.csv", "-o", "out.csv", "--plot"]
    assert main([*arguments, "plot.png"]) == 0
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "plot.doc", "--force"]) == 2
    assert "The plot must end in .svg, .png, .pdf. Received: plot.doc." in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    Path("out.csv").unlink()
    assert main([*arguments, "other.png"]) == 2
    assert 'Run `pip install "rnnstate[plot]"`.' in capsys.readouterr().err
    assert not Path("out.csv").exists()


def test_a_run_of_the_first_format(folder, capsys) -> None:
    """A RUN of format 1 predicts, and says that it cannot be updated."""
    golden = Path(__file__).parents[1] / "golden"
    shutil.copytree(golden / "run_v1", "OLD")
    before = {path.name: path.read_bytes() for path in Path("OLD").iterdir()}
    time = json.loads(Path("OLD/run.json").read_text())["arguments"]["time"]
    follows = [] if time else ["--continue"]
    assert main(["forecast", "OLD"]) == 2
    assert "A forecast without DATA needs a RUN of format 2." in capsys.readouterr().err
    assert main(["predict", "OLD", str(golden / "run_v1.csv"), "-o", "old.csv", "--update", *follows]) == 2
    assert capsys.readouterr().err.startswith("Error: `--update`")
    assert {path.name: path.read_bytes() for path in Path("OLD").iterdir()} == before
