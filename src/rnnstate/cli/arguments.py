"""The entry point of the arguments: the parser of all commands, and its help.

This module imports nothing heavy, so that `--help` is quick.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rnnstate import __version__
from rnnstate.cli.forecast_arguments import FORECASTING
from rnnstate.cli.model_arguments import MODELS, TOOLS
from rnnstate.cli.serve_arguments import SERVING
from rnnstate.cli.shared_arguments import Parser

GROUPS = {"Forecast": FORECASTING, "Look at models and states": MODELS, "Serve": SERVING, "Tools": TOOLS}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line.

    `--target load power.csv` reads `power.csv` as a second target, because `--target` takes several columns. If DATA is
    missing and exactly one of the columns names a file, that word is DATA.

    Raises:
        SystemExit: If the usage is wrong, or there is no command. The status is 2.
    """
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        getattr(options, "fail", parser.error)(f"Unknown: {' '.join(unknown)}")
    if options.command is None:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    if options.command == "train" and options.data is None:
        _take_data(options)
    return options


def _take_data(options: argparse.Namespace) -> None:
    columns = [*options.target, *options.feature]
    files = [name for name in columns if name == "-" or Path(name).is_file()]
    if len(files) != 1 or files == options.target:
        options.fail(
            f"DATA is missing: --target and --feature take every word up to the next option, here {' '.join(columns)}. "
            f"Write DATA first: `rnnstate train DATA --target {options.target[0]}`"
        )
    options.data = files[0]
    options.target = [name for name in options.target if name != files[0]]
    options.feature = [name for name in options.feature if name != files[0]]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="rnnstate",
        usage="rnnstate COMMAND [OPTION ...]",
        description="Train recurrent networks on long series. The state is carried from window to window, and predictions\n"
        "continue where the data ended.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rnnstate {__version__}")
    commands = parser.add_subparsers(prog="rnnstate", dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    lines = []
    for title, group in GROUPS.items():
        lines.append(f"{title}:")
        for add in group:
            name, summary = add(commands)
            lines.append(f"  {name:<11} {summary}")
        lines.append("")
    lines += ["Begin with `rnnstate demo`. `rnnstate COMMAND --help` shows the options of a command and an example."]
    parser.epilog = "\n".join(lines)
    return parser
