"""The arguments and the help of the command line. This module imports nothing heavy, so that `--help` is quick."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rnnstate import __version__

# The type that `add_subparsers` returns. Its class is private in argparse.
Commands: TypeAlias = Any
_DEFAULT = "default: %(default)s"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line.

    `--target load power.csv` reads `power.csv` as a second target, because `--target` takes several columns. If DATA is
    missing and exactly one of the columns names a file, that word is DATA.

    Raises:
        SystemExit: If the usage is wrong. The status is 2.
    """
    options = build_parser().parse_args(arguments)
    if options.command == "train" and options.data is None:
        _take_data(options)
    return options


def _take_data(options: argparse.Namespace) -> None:
    columns = [*options.target, *options.feature]
    files = [name for name in columns if name == "-" or Path(name).is_file()]
    if len(files) != 1 or files == options.target:
        options.fail(
            f"DATA is missing: --target and --feature take every word up to the next option, here {' '.join(columns)}. "
            f"Write DATA first: rnnstate train DATA --target {options.target[0]}"
        )
    options.data = files[0]
    options.target = [name for name in options.target if name != files[0]]
    options.feature = [name for name in options.feature if name != files[0]]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="rnnstate",
        description="Train recurrent networks on long series. The state is carried from window to window, and predictions "
        "continue where the data ended.",
        epilog="Example: rnnstate demo",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rnnstate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _add_demo,
        _add_train,
        _add_evaluate,
        _add_predict,
        _add_inspect,
        _add_audit,
        _add_convert,
        _add_diff,
        _add_export,
        _add_bench,
    ):
        add(commands)
    return parser


def _add_demo(commands: Commands) -> None:
    parser = _add(
        commands,
        "demo",
        "Train on four years of a household's electric power. The data come with the package.",
        "rnnstate demo --epochs 1",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training part (default: 100)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="keep the trained model in this folder")
    _add_output_options(parser)


def _add_train(commands: Commands) -> None:
    parser = _add(
        commands,
        "train",
        "Train a forecaster on a table, with carried state, and write it to the folder RUN.",
        "rnnstate train power.csv --target load --time time --window 24 --layers gru:8 --epochs 2 --out power.run",
    )
    # argparse would show DATA as optional: `parse` finds it where `--target` took it for a column.
    parser.usage = "rnnstate train DATA --target COL [COL ...] --out RUN [OPTION ...]"
    parser.set_defaults(fail=parser.error)
    add = parser.add_argument
    add("data", nargs="?", metavar="DATA", help="CSV file (gzip too), Parquet file, or - for standard input")
    add(
        "--target",
        action="extend",
        nargs="+",
        required=True,
        metavar="COL",
        help="columns to predict; they are also inputs",
    )
    add("--feature", action="extend", nargs="+", default=[], metavar="COL", help="further inputs")
    add("--key", metavar="COL", help="column that names the sequence a row belongs to")
    add("--time", metavar="COL", help="column of ISO dates or numbers; it increases within each key")
    add("--horizon", type=int, default=1, metavar="N", help=f"how many steps ahead to predict ({_DEFAULT})")
    add("--window", type=int, default=96, metavar="N", help=f"steps of a window ({_DEFAULT})")
    add(
        "--layers",
        default="lstm:8,lstm:16",
        metavar="KIND:UNITS,...",
        help=f"recurrent layers: lstm, gru or rnn, each with its units ({_DEFAULT})",
    )
    add("--epochs", type=int, default=30, metavar="N", help=f"passes over the training part ({_DEFAULT})")
    add("--batch-size", type=int, default=16, metavar="N", help=f"rows of a batch ({_DEFAULT})")
    add("--learning-rate", type=float, default=3e-3, metavar="R", help=f"learning rate of Adam ({_DEFAULT})")
    add(
        "--split",
        default="0.7,0.1,0.2",
        metavar="A,B,C",
        help=f"shares of training, validation and test part, in time order ({_DEFAULT})",
    )
    add("--seed", type=int, default=0, metavar="N", help=f"seed of the weights ({_DEFAULT})")
    add("--out", type=Path, required=True, metavar="RUN", help="folder to make")
    _add_reading(parser, decimal=".", encoding="utf-8", sort=False)
    _add_resuming(parser)
    _add_output_options(parser)


def _add_evaluate(commands: Commands) -> None:
    parser = _add(
        commands,
        "evaluate",
        "Compare the predictions of RUN with a table. Errors have the units of the data.",
        "rnnstate evaluate power.run newer.csv",
    )
    _add_run_and_data(parser)


def _add_predict(commands: Commands) -> None:
    parser = _add(
        commands,
        "predict",
        "Predict for each row of a table. Predictions continue where the data of RUN ended.",
        "rnnstate predict power.run newer.csv -o forecast.csv",
    )
    _add_run_and_data(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write: .csv, .csv.gz or .parquet; - for CSV on standard output",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")


def _add_inspect(commands: Commands) -> None:
    parser = _add(
        commands,
        "inspect",
        "Show the state of a model or of a state file: layer, leaf, shape, dtype, and whether it is carried.",
        "rnnstate inspect power.run",
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN|MODEL.keras|FILE", help="folder of a training, any Keras model, or a state file"
    )


def _add_audit(commands: Commands) -> None:
    parser = _add(
        commands,
        "audit",
        "Report how a Keras model treats its state on this backend. The exit status is 1 if there is an error.",
        "rnnstate audit power.run/model.keras",
    )
    parser.add_argument("path", type=Path, metavar="MODEL.keras", help="any Keras model")


def _add_convert(commands: Commands) -> None:
    parser = _add(
        commands,
        "convert",
        "Write a state file as .npz, .h5 or .safetensors. Leaves, their order and the metadata stay the same.",
        "rnnstate convert power.run/states.safetensors states.npz",
    )
    parser.add_argument("source", type=Path, metavar="FILE", help="state file: .safetensors, .npz or .h5")
    parser.add_argument("target", type=Path, metavar="TARGET", help="file to write, in any of these formats")
    parser.add_argument("--force", action="store_true", help="replace TARGET")


def _add_diff(commands: Commands) -> None:
    parser = _add(
        commands,
        "diff",
        "Show which leaves of two state files differ, and how far. The exit status is 1 if any does.",
        "rnnstate diff power.run/states.safetensors states.npz",
    )
    parser.add_argument("one", type=Path, metavar="FILE", help="state file: .safetensors, .npz or .h5")
    parser.add_argument("other", type=Path, metavar="OTHER", help="the state file to compare it with")


def _add_export(commands: Commands) -> None:
    parser = _add(
        commands,
        "export",
        "Export the step model for another runtime, verify it there, and write a manifest next to it.",
        "rnnstate export power.run power.keras --scaled",
    )
    parser.add_argument(
        "path",
        type=Path,
        metavar="RUN|MODEL.keras",
        help="folder of a training, or any Keras model that can be carried",
    )
    parser.add_argument(
        "out", type=Path, metavar="FILE", help="file to write: .onnx, .tflite, .stablehlo, .keras, a folder"
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "saved_model", "litert", "stablehlo", "keras"),
        help="format (default: by the suffix of FILE)",
    )
    parser.add_argument("--time", type=int, metavar="N", help="steps of each call (default: any number; LiteRT: one)")
    parser.add_argument(
        "--scaled",
        action="store_true",
        help="put the scaling of RUN into the file, so that inputs and outputs have the units of the data",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")


def _add_bench(commands: Commands) -> None:
    parser = _add(
        commands,
        "bench",
        "Compare the speed of this project with other libraries, side by side on this machine.",
        "rnnstate bench --quick",
    )
    add = parser.add_argument
    add(
        "--task",
        choices=("train", "step"),
        default="train",
        help=f"time training steps, or single steps as a server takes them ({_DEFAULT})",
    )
    add(
        "--units",
        default="8",
        metavar="N,...",
        help=f"units of the LSTM layers, with one comparison for each number ({_DEFAULT})",
    )
    for name, what in (("batch", "rows of a batch"), ("features", "inputs"), ("window", "steps of a window")):
        add(f"--{name}", type=int, metavar="N", help=f"{what} (default: depends on the units)")
    add("--layers", type=int, metavar="N", help="LSTM layers (default: 2)")
    add("--contenders", metavar="NAME,...", help="contenders to run (default: all but the variants of this project)")
    add("--list", action="store_true", help="list the contenders and the modules that are not installed, then end")
    add("--rounds", type=int, metavar="N", help="turns of each contender (default: 5)")
    add("--seconds", type=float, metavar="S", help="length of a turn; a turn has at least one epoch (default: 0.5)")
    add("--quick", action="store_true", help="a tiny size, two rounds and two contenders, to see it work")
    add("--json", type=Path, metavar="FILE", help="write all that was measured")
    add("--plot", type=Path, metavar="FILE", help="draw it: .svg, .png or .pdf")
    add("--force", action="store_true", help="replace FILE")
    add("--quiet", action="store_true", help="say nothing about the progress")


def _add(commands: Commands, name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text[0].lower() + text[1:].rstrip("."),
        description=text,
        epilog=f"Example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _add_run_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="RUN", help="folder that `rnnstate train` made")
    parser.add_argument("data", metavar="DATA", help="CSV file (gzip too), Parquet file, or - for standard input")
    parser.add_argument(
        "--continue",
        dest="always",
        action="store_true",
        help="the rows of DATA follow the data of RUN; for tables without a time column",
    )
    _add_reading(parser)


def _add_reading(parser: argparse.ArgumentParser, **defaults: Any) -> None:
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


def _add_resuming(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--resume",
        action="store_true",
        help="keep checkpoints next to RUN until it is complete; start the same command again to continue",
    )
    add("--checkpoint", type=Path, metavar="DIR", help="like --resume, with the checkpoints in DIR; DIR is not removed")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace RUN if it exists")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
