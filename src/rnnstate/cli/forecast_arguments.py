"""The arguments of `demo`, `train`, `evaluate`, `predict` and `forecast`."""

import argparse
from pathlib import Path

from rnnstate.cli.shared_arguments import (
    DEFAULT,
    Added,
    Commands,
    add_backend,
    add_json,
    add_quiet,
    add_reading,
    add_run_and_data,
    new_command,
)


def _add_demo(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "demo",
        "Train on four years of a household's electric power. The data come with the package.",
        "rnnstate demo --epochs 1",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training part (default: 100)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="keep the trained model in this folder")
    _add_no_report(parser, "rnnstate-demo.html, or into RUN")
    _add_output_options(parser)
    return "demo", "train on the power data that come with the package"


def _add_train(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "train",
        "Train a forecaster on a table, with carried state, and write it to the folder RUN.",
        "rnnstate train power.csv --target load --time time --window 24 --layers gru:8 --epochs 2 --out power.run",
    )
    # argparse would show DATA as optional: `parse` finds it where `--target` took it for a column.
    parser.usage = "rnnstate train DATA --target COL [COL ...] --out RUN [OPTION ...]"
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
    add("--horizon", type=int, default=1, metavar="N", help=f"how many steps ahead to predict ({DEFAULT})")
    add("--window", type=int, default=96, metavar="N", help=f"steps of a window ({DEFAULT})")
    add(
        "--layers",
        default="lstm:8,lstm:16",
        metavar="KIND:UNITS,...",
        help=f"recurrent layers: lstm, gru or rnn, each with its units ({DEFAULT})",
    )
    add("--epochs", type=int, default=30, metavar="N", help=f"passes over the training part ({DEFAULT})")
    add("--batch-size", type=int, default=16, metavar="N", help=f"rows of a batch ({DEFAULT})")
    add("--learning-rate", type=float, default=3e-3, metavar="R", help=f"learning rate of Adam ({DEFAULT})")
    add(
        "--split",
        default="0.7,0.1,0.2",
        metavar="A,B,C",
        help=f"shares of training, validation and test part, in time order ({DEFAULT})",
    )
    add("--seed", type=int, default=0, metavar="N", help=f"seed of the weights ({DEFAULT})")
    add("--out", type=Path, required=True, metavar="RUN", help="folder to make")
    add_reading(parser, decimal=".", encoding="utf-8", sort=False)
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help=f"processes on this machine, each with its rows of every batch; the result stays the same ({DEFAULT})",
    )
    _add_resuming(parser)
    _add_no_report(parser, "report.html into RUN")
    _add_output_options(parser)
    return "train", "train a forecaster on a table, and write it to the folder RUN"


def _add_evaluate(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "evaluate",
        "Compare the predictions of RUN with a table. Errors have the units of the data.",
        "rnnstate evaluate power.run newer.csv",
    )
    add_run_and_data(parser)
    add_json(parser)
    add_quiet(parser)
    add_backend(parser)
    return "evaluate", "compare the predictions of RUN with a table"


def _add_predict(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "predict",
        "Predict for each row of a table. Predictions continue where the data of RUN ended.",
        "rnnstate predict power.run newer.csv -o forecast.csv",
    )
    add_run_and_data(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write: .csv, .csv.gz or .parquet; - for CSV on standard output",
    )
    parser.add_argument(
        "--update", action="store_true", help="keep in RUN where DATA end, so that the next data continue"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")
    add_quiet(parser)
    add_backend(parser)
    return "predict", "predict for each row of a table"


def _add_forecast(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "forecast",
        "Predict the steps after the data. The network runs on its own predictions.",
        "rnnstate forecast power.run newer.csv --steps 24 -o next_day.csv",
    )
    add_run_and_data(parser, optional=True)
    add = parser.add_argument
    add("--steps", type=int, metavar="N", help="how many steps (default: the horizon of RUN)")
    add(
        "--hold", action="store_true", help="keep each --feature at its last value; without it, later steps are refused"
    )
    add("-o", "--out", type=Path, default=Path("-"), metavar="FILE", help="file to write (default: -, standard output)")
    add("--plot", type=Path, metavar="FILE", help="draw the forecast: .svg, .png or .pdf")
    add("--force", action="store_true", help="replace FILE")
    add_quiet(parser)
    add_backend(parser)
    return "forecast", "predict the steps after the data"


def _add_resuming(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--resume",
        action="store_true",
        help="keep checkpoints next to RUN until it is complete; start the same command again to continue",
    )
    add("--checkpoint", type=Path, metavar="DIR", help="like --resume, with the checkpoints in DIR; DIR is not removed")


def _add_no_report(parser: argparse.ArgumentParser, place: str) -> None:
    parser.add_argument("--no-report", action="store_true", help=f"do not write the page about RUN (default: {place})")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace RUN if it exists")
    add_json(parser)
    add_quiet(parser)
    add_backend(parser)


FORECASTING = (_add_demo, _add_train, _add_evaluate, _add_predict, _add_forecast)
