"""The help of the command line: what it starts, its examples, its defaults, and wrong usage."""

import gzip
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from rnnstate import __version__
from rnnstate.cli import forecast_commands as commands
from rnnstate.cli.app import COMMANDS, main
from rnnstate.cli.arguments import build_parser
from rnnstate.forecasting.settings import Settings

pytestmark = pytest.mark.once

PROBE = """
import sys
from rnnstate.cli.app import main
try:
    main(sys.argv[1:])
finally:
    print(sorted({"keras", "jax", "torch", "tensorflow", "numpy"} & set(sys.modules)))
"""


def test_help_starts_nothing() -> None:
    """`--help`, of a command too, imports neither Keras nor a backend; the probe itself can see an import."""
    for arguments in (["--help"], ["train", "--help"], ["--version"], ["completion", "bash"]):
        done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
    done = subprocess.run(
        [sys.executable, "-c", f"import numpy\n{PROBE}", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "['numpy']"


def test_version() -> None:
    """`python -m rnnstate --version` says the release."""
    done = subprocess.run([sys.executable, "-m", "rnnstate", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"rnnstate {__version__}\n"


def test_wrong_usage(capsys) -> None:
    """Wrong usage has exit status 2. Without a command the help lists the commands in groups."""
    wrong = {
        "fly": r"Error: Argument COMMAND: invalid choice: 'fly'.*`rnnstate --help` shows the usage\.\n",
        "train data.csv": r"Error: The following arguments are required: --target, --out. `rnnstate train --help`.*\n",
        "audit RUN --horizon x": r"Error: Unknown: --horizon x. `rnnstate audit --help` shows the usage\.\n",
        "": "usage: .*",
    }
    for arguments, message in wrong.items():
        with pytest.raises(SystemExit) as stopped:
            main(arguments.split())
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(message, printed.err, re.DOTALL)
        assert printed.err.count("\n") == 1 or not arguments
    assert re.search(r"^Forecast:\n  demo .*\nTools:\n  bench ", printed.err, re.MULTILINE | re.DOTALL)


def examples() -> dict[str, str]:
    """Return the example that ends the help of each command."""
    parsers = next(action.choices for action in build_parser()._actions if action.dest == "command")
    return {name: re.search(r"Example:\n  rnnstate (.*)\n\Z", parser.format_help()) for name, parser in parsers.items()}


def test_examples_of_the_help(tmp_path, monkeypatch, capsys, warm_processes) -> None:
    """Each command's help ends with an example, and the examples run in their order; the demo on a part of its data."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    lines = [f"2021-05-0{1 + hour // 24} {hour % 24:02}:00,{rng.normal():.3f}" for hour in range(180)]
    Path("power.csv").write_text("\n".join(["time,load", *lines[:150]]) + "\n")
    Path("newer.csv").write_text("\n".join(["time,load", *lines[150:]]) + "\n")
    shipped = (files("rnnstate") / "data" / commands.DEMO_DATA).read_bytes()
    Path("part.csv").write_bytes(b"\n".join(gzip.decompress(shipped).split(b"\n")[:2000]))
    monkeypatch.setattr(commands, "DEMO_DATA", str(tmp_path / "part.csv"))
    assert list(examples()) == list(COMMANDS)
    for example in examples().values():
        assert main(shlex.split(example[1])) == 0, capsys.readouterr().err
    assert capsys.readouterr().err.count("Continues from the kept state") == 3
    written = {"power.run", "forecast.csv", "next_day.csv", "states.npz", "power.keras", "power.keras.json"}
    written |= {"states.svg", "power.html", "rnnstate-demo.html", "sessions"}
    assert {"part.csv", "power.csv", "newer.csv", *written} == {path.name for path in tmp_path.iterdir()}


def test_every_command_is_in_the_guide() -> None:
    """docs/cli.md shows a session of each command."""
    guide = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert [name for name in COMMANDS if f"$ rnnstate {name}" not in guide] == []


def test_defaults_agree() -> None:
    """The command line and `Settings` have the same defaults, and the help of the demo names its epochs."""
    options = vars(build_parser().parse_args(["train", "data.csv", "--target", "load", "--out", "RUN"]))
    options["na"] = tuple(options["na"] or ())
    settings = Settings(("load",)).to_json()
    shared = set(options) & set(settings)
    assert {name: options[name] for name in shared} == {name: settings[name] for name in shared}
    assert len(shared) == 15
    parsers = next(action.choices for action in build_parser()._actions if action.dest == "command")
    assert f"(default: {commands.DEMO.epochs})" in parsers["demo"].format_help()
