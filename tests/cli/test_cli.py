"""The command line: examples, tables, predictions that continue, and errors in one line."""

import csv
import io
import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from forecasting import GAP, TINY, TRAIN, rows, write_rows
from rnnstate.cli import forecast_commands as commands
from rnnstate.cli.app import main
from rnnstate.cli.arguments import parse
from rnnstate.forecasting.tablefiles import read_table

pytestmark = pytest.mark.once

LOUD = [option for option in TINY if option != "--quiet"]


def forecast(folder: Path, data: str, *options: str) -> list[dict[str, str]]:
    """Return the rows that `rnnstate predict` writes."""
    out = folder / f"forecast_{data}"
    assert main(["predict", str(folder / "RUN"), str(folder / data), "-o", str(out), "--force", *options]) == 0
    return read_rows(out)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"))))


def values(predictions: list[dict[str, str]]) -> np.ndarray:
    """Return the predictions as numbers, NaN where a cell is empty."""
    return np.array([float(list(row.values())[-1] or "nan") for row in predictions])


def test_shipped_data() -> None:
    """The demo's data are all there, with their notice."""
    folder = files("rnnstate") / "data"
    table = read_table(str(folder / commands.DEMO_DATA))
    assert (len(table), int(np.isnan(table.numbers("active_kw")).sum())) == (138_352, 1_713)
    assert "CC BY 4.0" in (folder / "NOTICE").read_text()


def test_predicting_in_two_halves(trained, capsys) -> None:
    """Predictions for newer data that continue equal those of one go over all data, also in the kept states' rows."""
    whole = forecast(trained, "all.csv")
    capsys.readouterr()
    newer = forecast(trained, "newer.csv")
    assert "2 keys continue from the kept states; 0 start fresh.\n" in capsys.readouterr().err
    assert [list(row.values())[:2] for row in newer] == [line.split(",")[:2] for line in rows(61, 80)]
    assert list(newer[0]) == ["house", "at", "load_in_1"]
    np.testing.assert_allclose(values(newer), values(whole)[-len(newer) :], rtol=0, atol=1e-5)


def test_predicting_without_states_differs(trained, capsys) -> None:
    """Negative control: the same rows started fresh, as after a missing row, give other predictions; it is said why."""
    write_rows(trained / "later.csv", rows(62, 80, "a") + rows(61, 80, "b") + rows(61, 80, "c"))
    later = forecast(trained, "later.csv")
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith(
        "1 key continues from the kept states; 2 start fresh: `a` (it begins at 2020-02-29 13:30:00,"
    )
    assert line.endswith("`c` (no state is kept for it).")
    newer = forecast(trained, "newer.csv")
    newer_of = {house: values([row for row in newer if row["house"] == house]) for house in "ab"}
    later_of = {house: values([row for row in later if row["house"] == house]) for house in "ab"}
    assert np.abs(later_of["a"] - newer_of["a"][1:])[0] > 1e-2
    np.testing.assert_allclose(later_of["b"], newer_of["b"], rtol=0, atol=1e-5)


def test_gap_rows_stay_empty(trained) -> None:
    """Each row of the data has its row of predictions, empty where a value is missing."""
    filled = np.isfinite(values(forecast(trained, "all.csv")))
    assert np.flatnonzero(~filled).tolist() == [2 * GAP, 2 * GAP + 1]


def test_parquet_both_ways(trained) -> None:
    """Parquet in and out gives what CSV gives."""
    from pyarrow import csv as pyarrow_csv
    from pyarrow import parquet as pyarrow_parquet

    table = pyarrow_csv.read_csv(trained / "newer.csv")
    pyarrow_parquet.write_table(table, trained / "newer.parquet")
    out = trained / "forecast.parquet"
    assert main(["predict", str(trained / "RUN"), str(trained / "newer.parquet"), "-o", str(out)]) == 0
    written = pyarrow_parquet.read_table(out)
    assert written.column("at").type == table.column("at").type or str(written.column("at").type) == "timestamp[us]"
    expected = values(forecast(trained, "newer.csv"))
    np.testing.assert_allclose(written.column("load_in_1").to_numpy(), expected, rtol=0, atol=1e-5)


def test_evaluate(trained, capsys) -> None:
    """The table has persistence by hand, carried and reset; carried and reset agree on no more than one of them."""
    assert main(["evaluate", str(trained / "RUN"), str(trained / "newer.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    load = read_table(str(trained / "newer.csv")).numbers("load").reshape(-1, 2)
    errors = load[1:] - load[:-1]
    found = {
        re.split("  +", line)[1]: [float(n) for n in line.split()[-3:]] for line in lines if line.startswith("load")
    }
    assert list(found) == ["persistence (value now)", "model, state carried", "model, reset every 7 steps"]
    hand = [np.abs(errors).mean(), np.sqrt((errors**2).mean())]
    assert found["persistence (value now)"] == pytest.approx([*hand, 1], rel=1e-3)
    assert found["model, state carried"] != found["model, reset every 7 steps"]
    predictions = values(forecast(trained, "newer.csv")).reshape(-1, 2)
    carried = np.abs(predictions[:-1] - load[1:]).mean()
    assert found["model, state carried"][0] == pytest.approx(carried, rel=1e-3)


def test_data_without_time_and_key(tmp_path, capsys) -> None:
    """Without times data start fresh, unless the user says that they continue; pieces are announced."""
    lines = [line.split(",")[2] for line in rows(0, 70, "a", gap=None)]
    (tmp_path / "data.csv").write_text("\n".join(["load", *lines[:60]]) + "\n")
    (tmp_path / "newer.csv").write_text("\n".join(["load", *lines[60:]]) + "\n")
    (tmp_path / "all.csv").write_text("\n".join(["load", *lines]) + "\n")
    arguments = ["--target", "load", "--window", "5", "--split", "0.9,0,0.1", "--horizon", "2"]
    assert main(["train", str(tmp_path / "data.csv"), *arguments, *LOUD, "--out", str(tmp_path / "RUN")]) == 0
    said = capsys.readouterr().err
    assert "Cut 1 training sequence into 2 pieces, so that the 2 rows of a batch are full" in said
    assert "No sequence is long enough for validation" in said
    whole = values(forecast(tmp_path, "all.csv"))[60:]
    assert "Starts fresh: there is no time column to tell; use --continue" in capsys.readouterr().err
    continued = values(forecast(tmp_path, "newer.csv", "--continue"))
    assert "Continues from the kept state: DATA follow the kept data." in capsys.readouterr().err
    np.testing.assert_allclose(continued, whole, rtol=0, atol=1e-5)
    assert np.abs(values(forecast(tmp_path, "newer.csv")) - whole)[0] > 1e-2


def test_same_seed_same_run(trained, tmp_path, capsys) -> None:
    """Two trainings with one seed have the same losses; another seed has others. `--json` prints the scores of RUN."""
    losses = [(trained / "RUN" / "history.json").read_text()]
    for seed in ("0", "1"):
        arguments = [*TRAIN, *TINY, "--seed", seed, "--force", "--json", "--out", str(tmp_path / "RUN")]
        assert main(["train", str(trained / "data.csv"), *arguments]) == 0
        losses.append((tmp_path / "RUN" / "history.json").read_text())
        printed = json.loads(capsys.readouterr().out)
        kept = json.loads((tmp_path / "RUN" / "run.json").read_text())["test"]
        assert (printed["scores"], printed["predictions"], printed["horizon"]) == (kept["errors"], kept["rows"], 1)
    assert losses[0] == losses[1] != losses[2]


def test_inspect_and_audit(trained, tmp_path, capsys) -> None:
    """`inspect` shows the leaves of a RUN and of any model, `audit` what is wrong with it."""
    import keras

    assert main(["inspect", str(trained / "RUN")]) == 0
    text = capsys.readouterr().out
    assert "Kept state of a: at 2020-02-29 13:00:00.\n" in text
    assert re.search(r"gru_2 +h +\(batch, units=5\) +float32 +yes", text)
    net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(3, name="lstm")])
    net.save(tmp_path / "plain.keras")
    assert main(["inspect", str(tmp_path / "plain.keras")]) == 0
    assert re.search(r"lstm +c +\(batch, units=3\) +float32 +no \(stateful=False\)", capsys.readouterr().out)
    assert main(["audit", str(tmp_path / "plain.keras")]) == 0
    assert "[fresh] `lstm`" in capsys.readouterr().out
    keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(3)]).save(tmp_path / "dense.keras")
    assert main(["inspect", str(tmp_path / "dense.keras")]) == 0
    assert "No layer of this model remembers anything." in capsys.readouterr().out
    assert main(["audit", str(trained / "RUN" / "model.keras")]) == 0
    text = capsys.readouterr().out
    # Where the backend has no fast loop, a note says so of each layer.
    assert text == "Nothing to report.\n" or all(line.startswith("note [ref") for line in text.splitlines())


def test_audit_fails_where_the_state_is_lost(tmp_path, backend, capsys) -> None:
    """A stock stateful layer is an error on JAX and PyTorch, so `audit` has exit status 1; TensorFlow carries it."""
    import keras

    net = keras.Sequential([keras.Input(batch_shape=(2, 5, 1)), keras.layers.LSTM(3, stateful=True, name="lstm")])
    net.save(tmp_path / "stock.keras")
    status = main(["audit", str(tmp_path / "stock.keras")])
    text = capsys.readouterr().out
    assert "[not-saved] `lstm`" in text
    assert status == int("error [" in text) == int(backend != "tensorflow")


def test_predicting_to_standard_output(trained, monkeypatch, capsysbinary) -> None:
    """`-o -` writes the CSV alone to standard output, notes to standard error, and no file."""
    monkeypatch.chdir(trained)
    before = sorted(trained.iterdir())
    assert main(["predict", "RUN", "newer.csv", "-o", "-"]) == 0
    printed = capsysbinary.readouterr()
    assert sorted(trained.iterdir()) == before
    assert b"2 keys continue from the kept states" in printed.err
    assert b"Wrote standard output: 38 predictions." in printed.err
    forecast(trained, "newer.csv")
    assert printed.out == (trained / "forecast_newer.csv").read_bytes()


@pytest.mark.parametrize("option", ["--resume", "--checkpoint=kept"])
def test_resuming_a_complete_run(trained, monkeypatch, capsys, option: str) -> None:
    """The same command on a complete RUN succeeds and changes nothing; other settings are an error as before."""
    monkeypatch.chdir(trained)
    written = {file.name: file.stat().st_mtime_ns for file in Path("RUN").iterdir()}
    given = ["train", "data.csv", *TRAIN, *LOUD, "--out", "RUN"]
    assert main([*given, option]) == 0
    assert "RUN is already complete: a training with the same settings wrote it." in capsys.readouterr().err
    assert main([*given, option, "--seed", "5"]) == 2
    assert "--out must not exist yet. Received: RUN." in capsys.readouterr().err
    assert {file.name: file.stat().st_mtime_ns for file in Path("RUN").iterdir()} == written


def test_data_after_a_list_of_columns(tmp_path, monkeypatch, capsys) -> None:
    """`--target load power.csv` finds the file; without a file, or with two, one clear line says what to write."""
    monkeypatch.chdir(tmp_path)
    for name in ("power.csv", "load.csv"):
        Path(name).touch()
    options = parse(["train", "--target", "load", "power.csv", "--out", "RUN"])
    assert (options.data, options.target, options.feature) == ("power.csv", ["load"], [])
    options = parse(["train", "--target", "load", "--feature", "warmth", "power.csv", "--out", "RUN"])
    assert (options.data, options.target, options.feature) == ("power.csv", ["load"], ["warmth"])
    for words in (["load", "none.csv"], ["load.csv", "power.csv"], ["power.csv"]):
        with pytest.raises(SystemExit) as stopped:
            parse(["train", "--target", *words, "--out", "RUN"])
        assert stopped.value.code == 2
        line = f"here {' '.join(words)}. Write DATA first: `rnnstate train DATA --target {words[0]}`."
        assert line in capsys.readouterr().err


def test_options_for_reading_are_kept(tmp_path, monkeypatch, capsys) -> None:
    """Data with decimal commas, own words and formats give what plain data give; `predict` reads as `train` did."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    plain, odd = ["at,load \xb0"], ["at;load \xb0"]
    for day in range(50):
        date, value = np.datetime64("2021-03-01") + day, f"{rng.normal():.3f}"
        empty = day == 20
        plain.append(f"{date},{'' if empty else value}")
        year, month, number = str(date).split("-")
        odd.append(f"{number}.{month}.{year};{'?' if empty else value.replace('.', ',')}")
    Path("plain.csv").write_text("\n".join(plain) + "\n", encoding="utf-8")
    Path("odd.csv").write_text("\n".join([odd[0], *odd[:0:-1]]) + "\n", encoding="latin-1")
    reading = ["--decimal", ",", "--na", "?", "--time-format", "%d.%m.%Y", "--encoding", "latin-1", "--sort"]
    small = ["--target", "load \xb0", "--time", "at", "--window", "7", *TINY]
    assert main(["train", "plain.csv", *small, "--out", "PLAIN"]) == 0
    assert main(["train", "odd.csv", *small, *reading, "--out", "ODD"]) == 0
    assert main(["predict", "PLAIN", "plain.csv", "-o", "plain_forecast.csv"]) == 0
    assert main(["predict", "ODD", "odd.csv", "-o", "odd_forecast.csv"]) == 0
    expected = values(read_rows("plain_forecast.csv"))
    np.testing.assert_array_equal(values(read_rows("odd_forecast.csv")), expected[::-1])
    arguments = ["predict", "ODD", "plain.csv", "--decimal", ".", "--time-format", "%Y-%m-%d", "--encoding", "utf-8"]
    assert main([*arguments, "-o", "again.csv"]) == 0
    np.testing.assert_array_equal(values(read_rows("again.csv")), expected)


def test_keys_that_differ_by_white_space(trained, capfd) -> None:
    """One line on standard error names them, they stay as they are, and a key of RUN that is meant is named."""
    write_rows(
        trained / "spaces.csv", rows(61, 80, "a") + [f" {line}" for line in rows(61, 80, "a")] + rows(61, 80, "b")
    )
    predictions = forecast(trained, "spaces.csv")
    output = capfd.readouterr()
    assert re.findall("Warning: .*\n", output.err) == [
        "Warning: 2 keys differ only by white space: 'a', ' a'. Each is a sequence of its own. "
        "If they name one sequence, write its key in one way.\n"
    ]
    assert "KeyWarning" not in output.err
    assert "` a` (no state is kept for it, but for 'a', which differs by white space)" in output.err
    assert [row["house"] for row in predictions[::19]] == ["a", " a", "b"]


BAD_DATA = {
    "text.csv": "house,at,load,warmth\na,1,2,3\na,2,much,3\n",
    "double.csv": "house,at,load,warmth\na,1,2,3\na,1,2,3\n",
    "empty.csv": "house,at,load,warmth\na,1,,3\na,2,,3\n",
    "short.csv": "house,at,load,warmth\n" + "".join(f"a,{row},{row},1\n" for row in range(9)),
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "train none.csv TRAIN --out new",
            "DATA must be a file that can be read. Received: none.csv (No such file or directory).",
        ),
        (
            "train data.csv --target laod --out new",
            "Column `laod` must be in data.csv, which has the columns `house`, `at`, `load`, ... (4 in all). "
            "Received: no such column. Did you mean `load`?",
        ),
        ("train text.csv TRAIN --out new", "Column `load` must hold a number. Received: 'much' in line 3 of text.csv."),
        (
            "train double.csv TRAIN --out new",
            "Times in column `at` of key 'a' must increase. Received: `1` twice in line 3 of double.csv.",
        ),
        (
            "train empty.csv TRAIN --out new",
            "empty.csv must have rows with a value in `load`, `warmth`, `at`. Received: 2 rows, none of them complete.",
        ),
        (
            "train short.csv TRAIN --out new",
            "A window of 7 steps, predicting 1 ahead, needs 8 rows without a gap in the training part. "
            "Received: 6 at most. Use --window 5 or less.",
        ),
        (
            "train data.csv TRAIN --out new --layers lstm",
            "`--layers` must be a list of lstm, gru or rnn, each with its number of units. Received: 'lstm'",
        ),
        ("train data.csv TRAIN --out new --split 1,1,1", "`--split` must be three fractions that add up to 1"),
        ("train data.csv TRAIN --out new --split nan,0,1", "`--split` must be three fractions that add up to 1"),
        ("train data.csv TRAIN --out new --epochs 0", "`epochs` must be a whole number of at least 1."),
        (
            "train data.csv TRAIN --out data.csv/new",
            "--out must be a folder that can be made. Received: data.csv/new (File exists: ",
        ),
        (
            "train data.csv TRAIN --out RUN",
            "--out must not exist yet. Received: RUN. Give another name, or --force to replace it.",
        ),
        (
            "evaluate data.csv newer.csv",
            "RUN must be a folder that `rnnstate train` made. Received: data.csv, no folder.",
        ),
        ("evaluate RUN newer.csv --encoding base64", "`--encoding` must be an encoding such as utf-8"),
        ("diff RUN/states.safetensors none.npz", "No such file or directory: none.npz."),
        ("evaluate RUN none.csv", "DATA must be a file that can be read."),
        ("evaluate RUN text.csv", "Column `load` must hold a number."),
        (
            "predict RUN other.csv -o out.csv",
            "Column `load` must be in other.csv, which has the columns `x`, `y`. Received: no such column.",
        ),
        ("predict RUN newer.csv -o data.csv", "The output must not exist yet. Received: data.csv."),
        ("predict RUN newer.csv -o none/out.csv", "The folder of the output must exist. Received: none."),
        ("inspect none", "There must be a RUN or a .keras file. Received: none, which does not exist."),
        ("inspect cut.keras", "cut.keras must be a whole Keras model. Received:"),
        ("audit cut.keras", "cut.keras must be a whole Keras model. Received:"),
        ("audit none.keras", "MODEL must be a .keras file. Received: none.keras, which is no file."),
    ],
)
def test_errors(trained, tmp_path, monkeypatch, capsys, arguments: str, message: str) -> None:
    """Each error has exit status 2, is one line on standard error, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    for name in ("data.csv", "newer.csv"):
        Path(name).write_bytes((trained / name).read_bytes())
    for name, text in {**BAD_DATA, "other.csv": "x,y\n1,2\n"}.items():
        Path(name).write_text(text)
    Path("cut.keras").write_bytes((trained / "RUN" / "model.keras").read_bytes()[:999])
    Path("RUN").symlink_to(trained / "RUN")
    before = sorted(tmp_path.iterdir())
    given = arguments.replace("TRAIN", " ".join(TRAIN)).split()
    assert main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {message}")
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_unexpected_errors_are_one_line_too(trained, tmp_path, monkeypatch, capsys) -> None:
    """An error that nobody foresaw is told in one line, with its class, and a variable shows where."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(commands, "train_model", fail)
    arguments = ["train", str(trained / "data.csv"), *TRAIN, "--out", str(tmp_path / "RUN")]
    monkeypatch.delenv("RNNSTATE_TRACEBACK", raising=False)
    assert main(arguments) == 2
    assert capsys.readouterr().err == "Error: RuntimeError: first second Set RNNSTATE_TRACEBACK=1 to see where.\n"
    monkeypatch.setenv("RNNSTATE_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="first"):
        main(arguments)


def test_interrupt_in_training(trained, tmp_path, monkeypatch, capsys) -> None:
    """Ctrl-C while training has exit status 130, one line, and leaves no RUN."""
    from rnnstate.windows.windows import Windows

    fetch = Windows.__getitem__
    fetched = []

    def interrupted(self, index):
        fetched.append(index)
        if len(fetched) == 3:
            raise KeyboardInterrupt
        return fetch(self, index)

    monkeypatch.setattr(Windows, "__getitem__", interrupted)
    assert main(["train", str(trained / "data.csv"), *TRAIN, *TINY, "--out", str(tmp_path / "RUN")]) == 130
    assert capsys.readouterr().err == "Interrupted: nothing was kept.\n"
    assert list(tmp_path.iterdir()) == []


def test_loss_that_is_no_number(trained, tmp_path, capsys) -> None:
    """A training whose loss is no number any more fails, and says what to lower."""
    arguments = [*TRAIN, *TINY, "--learning-rate", "1e38", "--epochs", "3", "--out", str(tmp_path / "RUN")]
    assert main(["train", str(trained / "data.csv"), *arguments]) == 2
    assert re.search(
        r"Error: The loss must stay a finite number. Received: \w+ (nan|inf) in epoch \d. Lower",
        capsys.readouterr().err,
    )
    assert list(tmp_path.iterdir()) == []
