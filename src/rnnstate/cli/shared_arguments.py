"""What the arguments of several commands share: the parser of a command, and groups of options."""

import argparse
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from rnnstate.cli.backend_choice import BACKENDS

# The type that `add_subparsers` returns. Its class is private in argparse.
Commands: TypeAlias = Any
# The name of a command and its line in the help.
Added: TypeAlias = tuple[str, str]
DEFAULT = "default: %(default)s"


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong usage in one line, as all other errors are reported."""

    def error(self, message: str) -> NoReturn:
        """Write one line to standard error, and exit with status 2."""
        text = f"{message[:1].upper()}{message[1:]}".rstrip(".")
        self.exit(2, f"Error: {text}. `{self.prog} --help` shows the usage.\n")


def new_command(commands: Commands, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """Return the parser of a new command. Its help ends with the example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        description=text,
        epilog=f"Example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(fail=parser.error)
    return parser


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`."""
    parser.add_argument(
        "--backend", choices=BACKENDS, help="backend of Keras (default: KERAS_BACKEND, or jax if installed)"
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="write the result alone: no notes and no progress")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="write the result as one JSON document")


def add_run_and_data(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Add RUN and DATA, and the options that belong to them."""
    parser.add_argument("path", type=Path, metavar="RUN", help="folder that `rnnstate train` made")
    without = " (default: forecast from where RUN stands)" if optional else ""
    text = f"CSV file (gzip too), Parquet file, or - for standard input{without}"
    parser.add_argument("data", nargs="?" if optional else None, metavar="DATA", help=text)
    parser.add_argument(
        "--continue",
        dest="always",
        action="store_true",
        help="the rows of DATA follow the data of RUN; for tables without a time column",
    )
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add the options that say how DATA are written. Without `defaults`, an option that is not given is `None`."""
    shown = {name: f" (default: {value})" for name, value in defaults.items()} or dict.fromkeys(
        ("decimal", "encoding"), " (default: as in the training)"
    )
    group = parser.add_argument_group("how DATA are written")
    add = group.add_argument
    add("--decimal", metavar="MARK", help=f"decimal mark of numbers, . or ,{shown['decimal']}")
    add("--na", action="append", metavar="WORD", help="word for a missing value, as --na=-; may be repeated")
    add("--time-format", metavar="FORMAT", help="format of the times, such as %%d.%%m.%%Y (default: ISO dates)")
    add("--encoding", metavar="NAME", help=f"encoding of a CSV file{shown['encoding']}")
    add("--sort", action="store_true", default=None, help="sort the rows of each key by time")
    group.set_defaults(**defaults)
