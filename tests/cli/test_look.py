"""`rnnstate plot` and `rnnstate report`: pictures of a RUN, and one page about it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from rnnstate.cli.app import main
from rnnstate.cli.model_arguments import PICTURES
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
    assert text.count("<img alt=") == len(PLOTS)
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
