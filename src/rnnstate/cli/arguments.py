"""The arguments of the command line, and its help. Imports nothing heavy, so that `--help` is quick."""

import argparse
from pathlib import Path
from typing import Any, TypeAlias

from rnnstate import __version__

# What `add_subparsers` returns; argparse names its class as private.
Commands: TypeAlias = Any
_DEFAULT = "default: %(default)s"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="rnnstate",
        description="Train recurrent networks on long series with their state carried from window to window, and "
        "predict on from where the data ended.",
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
        "Train on four years of a household's electric power, which comes with the package.",
        "rnnstate demo --epochs 1",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training part (default: 100)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="keep what was trained in this folder")
    _add_output_options(parser)


def _add_train(commands: Commands) -> None:
    parser = _add(
        commands,
        "train",
        "Train a forecaster on a table, with carried state, and leave it in the folder RUN.",
        "rnnstate train power.csv --target load --time time --window 24 --layers gru:8 --epochs 2 --out power.run",
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="CSV file (gzip too), Parquet file, or - for standard input")
    add(
        "--target",
        action="extend",
        nargs="+",
        required=True,
        metavar="COL",
        help="columns to predict; they are inputs too",
    )
    add("--feature", action="extend", nargs="+", default=[], metavar="COL", help="further inputs")
    add("--key", metavar="COL", help="column that names the sequence a row belongs to")
    add("--time", metavar="COL", help="column of ISO dates or numbers, which increases within each key")
    add("--horizon", type=int, default=1, metavar="N", help=f"how many steps ahead ({_DEFAULT})")
    add("--window", type=int, default=96, metavar="N", help=f"steps of a window ({_DEFAULT})")
    add(
        "--layers",
        default="lstm:8,lstm:16",
        metavar="KIND:UNITS,...",
        help=f"recurrent layers: lstm, gru or rnn and their units ({_DEFAULT})",
    )
    add("--epochs", type=int, default=30, metavar="N", help=f"passes over the training part ({_DEFAULT})")
    add("--batch-size", type=int, default=16, metavar="N", help=f"rows of a batch ({_DEFAULT})")
    add("--learning-rate", type=float, default=3e-3, metavar="R", help=f"of Adam ({_DEFAULT})")
    add(
        "--split",
        default="0.7,0.1,0.2",
        metavar="A,B,C",
        help=f"shares of training, validation and test, by time ({_DEFAULT})",
    )
    add("--seed", type=int, default=0, metavar="N", help=f"of weights ({_DEFAULT})")
    add("--out", type=Path, required=True, metavar="RUN", help="folder to make")
    _add_resuming(parser)
    _add_output_options(parser)


def _add_evaluate(commands: Commands) -> None:
    parser = _add(
        commands,
        "evaluate",
        "Compare the predictions of RUN with a table: errors in the data's own units.",
        "rnnstate evaluate power.run newer.csv",
    )
    _add_run_and_data(parser)


def _add_predict(commands: Commands) -> None:
    parser = _add(
        commands,
        "predict",
        "Predict for each row of a table, continuing from where the data of RUN ended.",
        "rnnstate predict power.run newer.csv -o forecast.csv",
    )
    _add_run_and_data(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="file to write: .csv, .csv.gz or .parquet"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")


def _add_inspect(commands: Commands) -> None:
    parser = _add(
        commands,
        "inspect",
        "Show what a model remembers, or what a state file holds: layer, leaf, shape, dtype, carried or not.",
        "rnnstate inspect power.run",
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN|MODEL.keras|FILE", help="folder of a training, any Keras model, or a state file"
    )


def _add_audit(commands: Commands) -> None:
    parser = _add(
        commands,
        "audit",
        "Report what a Keras model does with its state on this backend; exit status 1 if it is in error.",
        "rnnstate audit power.run/model.keras",
    )
    parser.add_argument("path", type=Path, metavar="MODEL.keras", help="any Keras model")


def _add_convert(commands: Commands) -> None:
    parser = _add(
        commands,
        "convert",
        "Write a state file as .npz, .h5 or .safetensors; leaves, their order and metadata stay.",
        "rnnstate convert power.run/states.safetensors states.npz",
    )
    parser.add_argument("source", type=Path, metavar="FILE", help="state file: .safetensors, .npz or .h5")
    parser.add_argument("target", type=Path, metavar="TARGET", help="file to write, of another of these formats")
    parser.add_argument("--force", action="store_true", help="replace TARGET")


def _add_diff(commands: Commands) -> None:
    parser = _add(
        commands,
        "diff",
        "Tell which leaves of two state files differ, and how far; exit status 1 if any does.",
        "rnnstate diff power.run/states.safetensors states.npz",
    )
    parser.add_argument("one", type=Path, metavar="FILE", help="state file: .safetensors, .npz or .h5")
    parser.add_argument("other", type=Path, metavar="OTHER", help="another one")


def _add_export(commands: Commands) -> None:
    parser = _add(
        commands,
        "export",
        "Write the step model of a model for another runtime, verified there, with a manifest beside it.",
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
        "--format", choices=("onnx", "saved_model", "litert", "stablehlo", "keras"), help="by the suffix if left out"
    )
    parser.add_argument("--time", type=int, metavar="N", help="steps of each call; any number if left out, LiteRT one")
    parser.add_argument(
        "--scaled",
        action="store_true",
        help="take and give the units of the data: the scaling of RUN goes into the file",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")


def _add_bench(commands: Commands) -> None:
    parser = _add(
        commands,
        "bench",
        "Compare training with this project and with others side by side, on this machine.",
        "rnnstate bench --quick",
    )
    add = parser.add_argument
    add(
        "--task",
        choices=("train", "step"),
        default="train",
        help=f"training steps, or single steps served ({_DEFAULT})",
    )
    add("--units", default="8", metavar="N,...", help=f"units of the LSTM layers, a comparison for each ({_DEFAULT})")
    for name, what in (("batch", "rows of a batch"), ("features", "inputs"), ("window", "steps of a window")):
        add(f"--{name}", type=int, metavar="N", help=f"{what}, in place of what is usual for so many units")
    add("--layers", type=int, metavar="N", help="LSTM layers (default: 2)")
    add("--contenders", metavar="NAME,...", help="who takes part (default: all but variants of this project)")
    add("--list", action="store_true", help="show the contenders, and what is not installed, and end")
    add("--rounds", type=int, metavar="N", help="how often each has its turn (default: 5)")
    add("--seconds", type=float, metavar="S", help="how long a turn lasts; at least one epoch (default: 0.5)")
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
        help="DATA follow the data of RUN; for tables without a time column",
    )


def _add_resuming(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--resume",
        action="store_true",
        help="keep checkpoints beside RUN until it is complete; the same command, started again, goes on from there",
    )
    add("--checkpoint", type=Path, metavar="DIR", help="the same, with checkpoints in DIR, which stays")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace RUN if it exists")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
