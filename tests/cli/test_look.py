"""`rnnstate plot` and `rnnstate report`: pictures of a RUN, and one page about it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from forecasting import TINY, TRAIN
from rnnstate.cli import look_commands
from rnnstate.cli.app import main
from rnnstate.cli.model_arguments import PICTURES
from rnnstate.forecasting import report
from rnnstate.forecasting.report import NO_PICTURES
from rnnstate.forecasting.run_plots import PLOTS

pytestmark = pytest.mark.once


def test_the_help_names_every_picture() -> None:
    """`--what` accepts the names of all pictures."""
    assert list(PLOTS) == list(PICTURES)


def test_a_picture_is_written_whole_or_not_at_all(trained, tmp_path, monkeypatch, capsys) -> None:
    """A picture of each kind of source is written; what cannot be drawn or replaced is one line, and no file."""
    monkeypatch.chdir(tmp_path)
    run = str(trained / "RUN")
    assert main(["plot", run, "--what", "training", "-o", "training.svg"]) == 0
    assert main(["plot", run, str(trained / "all.csv"), "--what", "states", "-o", "states.png"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[0] == "Wrote training.svg."
    assert printed.err.splitlines()[-2:] == [f"Looks at all rows of {trained / 'all.csv'}.", "Wrote states.png."]
    assert Path("states.png").read_bytes().startswith(b"\x89PNG")
    for arguments, line in (
        (["--what", "states", "-o", "states.png"], "states.png"),
        (["--what", "states", "-o", "states.gif"], "The plot must end in .svg, .png, .pdf. Received: states.gif."),
        (["gone.csv", "--what", "states", "-o", "new.png"], "gone.csv"),
    ):
        assert main(["plot", run, *arguments]) == 2
        message = capsys.readouterr().err
        assert message.startswith("Error: ")
        assert line in message
        assert message.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"training.svg", "states.png"}


def test_a_report_is_one_file(trained, tmp_path, monkeypatch, capsys) -> None:
    """The page holds every part, needs no script and no network, and its health is printed, or given as JSON."""
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(trained / "RUN"), "-o", "run.html"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Health: ")
    assert printed.err.splitlines()[-1] == "Wrote run.html."
    text = Path("run.html").read_text()
    parts = ["Data", "Training", "Errors and forecasts", "The state", "Health", "Audit", "How it was made"]
    assert re.findall("<h2>(.*?)</h2>", text) == parts
    assert text.count("<img alt=") == len(PLOTS) - 2  # the page leaves out `portrait` and `neighbours`
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', text))
    assert not re.search("<script|<link|https?://|@import|url\\(", text)
    assert "rnnstate train" in text
    assert "largest Lyapunov exponent" in text
    assert main(["report", str(trained / "RUN"), "-o", "run.html"]) == 2
    assert "--force" in capsys.readouterr().err


def test_a_report_without_the_data(trained, tmp_path, monkeypatch, capsys) -> None:
    """If the file of the training has gone, the page tells so, and still has what the RUN knows itself."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "RUN", "power.run")
    info = json.loads(Path("power.run/run.json").read_text())
    info["command"][2] = "moved.csv"
    Path("power.run/run.json").write_text(json.dumps(info))
    assert main(["report", "power.run", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"report": str(tmp_path / "power.run.html"), "health": None, "left_out": {}}
    assert "moved.csv is no file here. Name the file: rnnstate report RUN DATA" in printed.err
    text = Path("power.run.html").read_text()
    assert "moved.csv is no file here" in text
    assert text.count("<img alt=") == 1
    assert main(["plot", "power.run", "--what", "drift", "-o", "drift.svg"]) == 2
    assert "Name the file: rnnstate plot RUN DATA --what drift" in capsys.readouterr().err
    assert main(["report", "power.run", "-o", "report.pdf"]) == 2
    assert "The report must end in .html. Received: report.pdf." in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"power.run", "power.run.html"}


def test_a_training_writes_its_report(trained, tmp_path, monkeypatch, capsys) -> None:
    """`train` leaves the page in RUN and names it in its last line; a RUN without rows for it is complete all the same."""
    monkeypatch.chdir(tmp_path)
    options = [option for option in TINY if option not in ("--quiet", "--no-report")]
    assert main(["train", str(trained / "data.csv"), *TRAIN, *options, "--out", "power.run"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "The report is in power.run/report.html."
    text = Path("power.run/report.html").read_text()
    assert text.count("<img alt=") == len(PLOTS) - 2
    assert "all of its" in text
    assert main(["predict", "power.run", str(trained / "newer.csv"), "-o", "out.csv"]) == 0
    monkeypatch.setattr(report, "make_report", lambda *given: 1 / 0)
    arguments = ["train", str(trained / "data.csv"), *TRAIN, *options, "--out", "power.run", "--force", "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["report"] is None
    assert "No report: division by zero" in printed.err
    assert not Path("power.run/report.html").exists()
    assert main(["evaluate", "power.run", str(trained / "newer.csv")]) == 0


def test_a_report_without_matplotlib(trained, tmp_path, monkeypatch, capsys) -> None:
    """The page has all numbers and no picture, and one line says how to get the pictures."""
    monkeypatch.chdir(tmp_path)
    for module in (report, look_commands):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert main(["report", str(trained / "RUN"), "-o", "run.html"]) == 0
    assert capsys.readouterr().err.splitlines()[-2:] == [NO_PICTURES, "Wrote run.html."]
    text = Path("run.html").read_text()
    assert "<img" not in text
    parts = ["Data", "Training", "Errors and forecasts", "Health", "Audit", "How it was made"]
    assert re.findall("<h2>(.*?)</h2>", text) == parts
    assert "steps ahead" in text


def test_bad_input_is_one_line_and_no_file(trained, tmp_path, monkeypatch, capsys) -> None:
    """A RUN that is missing, a file or broken, and an output that cannot be written, end with status 2 before any work."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "RUN", "broken.run")
    Path("broken.run/model.keras").write_bytes(b"not a model")
    shutil.copytree(trained / "RUN", "json.run")
    Path("json.run/run.json").write_text("{")
    Path("folder.html").mkdir()
    run, before = str(trained / "RUN"), {path.name for path in tmp_path.iterdir()}
    for arguments, words in (
        (["report", "gone.run"], "gone.run, no folder"),
        (["report", run + "/run.json", "-o", "new.html"], "run.json, no folder"),
        (["report", "broken.run", "-o", "new.html"], "must be a whole Keras model"),
        (["report", "json.run", "-o", "new.html"], "must be whole JSON"),
        (["report", run, "-o", "folder.html"], "which is a folder"),
        (["report", run, "-o", "gone/new.html"], "folder of the output must exist"),
        (["report", run, "/dev/null", "-o", "new.html"], "Error: "),
        (["plot", "gone.run", "--what", "states", "-o", "new.svg"], "gone.run, no folder"),
        (["plot", run, "--what", "training", "-o", "gone/new.svg"], "folder of the output must exist"),
    ):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert words in message
        assert message.splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in message
    with pytest.raises(SystemExit, match="2"):
        main(["plot", run, "--what", "unknown", "-o", "new.svg"])
    assert "invalid choice: 'unknown'" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["report", run, "-o", "new.html"]) == 2
    assert "folder of the output must be writable" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before
