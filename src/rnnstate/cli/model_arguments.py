"""The arguments of the commands for models and states, and of `bench` and `completion`."""

from argparse import ArgumentParser
from pathlib import Path

from rnnstate.cli.completion import SHELLS
from rnnstate.cli.shared_arguments import (
    DEFAULT,
    Added,
    Commands,
    add_backend,
    add_json,
    add_quiet,
    add_reading,
    new_command,
)

# The names of `rnnstate.forecasting.run_plots`, which is slow to import. A test holds the two together.
PICTURES = (
    "training",
    "error-by-horizon",
    "error-by-position",
    "forecast",
    "forgetting",
    "gradient-by-lag",
    "states",
    "gate-saturation",
    "drift",
    "portrait",
    "neighbours",
    "lanes",
)


def _add_inspect(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "inspect",
        "Show the state of a model or of a state file: layer, leaf, shape, dtype, and whether it is carried.",
        "rnnstate inspect power.run",
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN|MODEL.keras|FILE", help="folder of a training, any Keras model, or a state file"
    )
    add_json(parser)
    add_backend(parser)
    return "inspect", "show the state of a model or of a state file"


def _add_audit(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "audit",
        "Report how a Keras model treats its state on this backend. The exit status is 1 if there is an error.",
        "rnnstate audit power.run",
    )
    parser.add_argument("path", type=Path, metavar="RUN|MODEL.keras", help="folder of a training, or any Keras model")
    add_json(parser)
    add_backend(parser)
    return "audit", "report how a Keras model treats its state"


def _add_convert(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "convert",
        "Write a state file as .npz, .h5 or .safetensors. Leaves, their order and the metadata stay the same.",
        "rnnstate convert power.run/states.safetensors states.npz",
    )
    parser.add_argument("source", type=Path, metavar="FILE", help="state file: .safetensors, .npz or .h5")
    parser.add_argument("target", type=Path, metavar="TARGET", help="file to write, in any of these formats")
    parser.add_argument("--force", action="store_true", help="replace TARGET")
    add_quiet(parser)
    return "convert", "write a state file in another format"


def _add_diff(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "diff",
        "Show which leaves of two state files differ, and how far. The exit status is 1 if any does.",
        "rnnstate diff power.run/states.safetensors states.npz",
    )
    parser.add_argument("one", type=Path, metavar="FILE", help="state file: .safetensors, .npz or .h5")
    parser.add_argument("other", type=Path, metavar="OTHER", help="the state file to compare it with")
    add_json(parser)
    return "diff", "show which leaves of two state files differ"


def _add_export(commands: Commands) -> Added:
    parser = new_command(
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
    add_quiet(parser)
    add_backend(parser)
    return "export", "write the model for another runtime, and verify it there"


def _add_plot(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "plot",
        "Draw a picture of RUN: what its state does, how it trained, what it predicts.",
        "rnnstate plot power.run --what states -o states.svg",
    )
    _add_run_with_data(parser)
    add = parser.add_argument
    add("--what", choices=PICTURES, required=True, help="which picture")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="file to write: .svg, .png or .pdf")
    parser.add_argument("--force", action="store_true", help="replace FILE")
    add_quiet(parser)
    add_backend(parser)
    return "plot", "draw a picture of the state, the training or the predictions"


def _add_report(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "report",
        "Write one page about RUN: data, training, errors, pictures of the state, health and audit. It prints the health.",
        "rnnstate report power.run -o power.html",
    )
    _add_run_with_data(parser)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="file to write, which ends in .html (default: RUN.html)"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")
    add_json(parser)
    add_quiet(parser)
    add_backend(parser)
    return "report", "write one page about a training, and show the health of its state"


def _add_run_with_data(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="RUN", help="folder that `rnnstate train` made")
    text = "CSV file (gzip too), Parquet file, or - for standard input (default: the file that RUN was trained on)"
    parser.add_argument("data", nargs="?", metavar="DATA", help=text)
    parser.set_defaults(always=False)
    add_reading(parser)


def _add_bench(commands: Commands) -> Added:
    parser = new_command(
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
        help=f"time training steps, or single steps as a server takes them ({DEFAULT})",
    )
    add(
        "--units",
        default="8",
        metavar="N,...",
        help=f"units of the LSTM layers, with one comparison for each number ({DEFAULT})",
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
    add_quiet(parser)
    return "bench", "compare the speed with other libraries"


def _add_completion(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "completion",
        "Print a script that lets your shell complete commands, options and file names.\n"
        'bash and zsh:  eval "$(rnnstate completion bash)"\nfish:          rnnstate completion fish | source',
        "rnnstate completion bash",
    )
    parser.add_argument("shell", choices=SHELLS, help="your shell")
    return "completion", "print a script for the completion of a shell"


MODELS = (_add_inspect, _add_audit, _add_plot, _add_report, _add_convert, _add_diff, _add_export)
TOOLS = (_add_bench, _add_completion)
