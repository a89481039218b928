"""Draw the pictures of README and of the documents from real runs: `python docs/pictures.py` (some minutes on JAX).

Most pictures show a tank that fills and empties at a measured rate. A network tells the level from the rate, in windows of
50 steps. It is trained twice: with its state carried from window to window, and from zeros in each window.

`--only NAME` draws one picture, `--out FOLDER` writes them elsewhere, and `--quick` makes small runs, to see that all work.
"""

import argparse
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import matplotlib as mpl
import numpy as np

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

from rnnstate.cli.app import main as command_line
from rnnstate.cli.forecast_commands import DEMO_DATA
from rnnstate.forecasting.looked_at import look_at
from rnnstate.forecasting.run_folder import read_run
from rnnstate.forecasting.tablefiles import read_table
from rnnstate.insight.plots import canvas

DOCS = Path(__file__).parent
LENGTH, SHOWN = 50, 400
# Text stays text, so that its colour can follow the page.
SVG = {"svg.fonttype": "none", "svg.hashsalt": "rnnstate", "path.simplify_threshold": 0.5}
# The colours of the pictures, and the colours that replace them on a dark page.
DARK = {
    canvas.INK: "#e6edf3",
    canvas.FAINT: "#7d8590",
    canvas.BLUE: "#3391e6",
    "#eaeef2": "#30363d",  # padding of lanes
    "#ffffff": "#0d1117",
}


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    series: int = 12
    steps: int = 1000
    epochs: int = 60
    demo_epochs: int = 100


FULL, QUICK = Size(), Size(series=2, steps=150, epochs=1, demo_epochs=1)


@cache
def tanks(size, seed):
    """Return measured rates and true levels, both `(series, time, 1)`."""
    rng = np.random.default_rng(seed)
    period = rng.uniform(20, 40, size=(size.series, 1))
    rate = np.sin(np.arange(size.steps) / period) + rng.normal(scale=0.3, size=(size.series, size.steps))
    level = np.zeros((size.series, size.steps))
    for t in range(1, size.steps):
        level[:, t] = 0.99 * level[:, t - 1] + 0.05 * rate[:, t]
    return rate[..., None].astype("float32"), level[..., None].astype("float32")


def windows(size, seed, length=LENGTH, **how):
    """Return the windows of all tanks."""
    return rs.Windows(*tanks(size, seed), length=length, batch_size=size.series, **how)


@cache
def trained(size, at):
    """Return a network that was trained on tanks. `at` says where the state is zero: at the `start`, or at each `window`."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(16, return_sequences=True, name="lstm"), keras.layers.Dense(1)]
    net = keras.Sequential([keras.Input((None, 1)), *layers])
    model = rs.StatefulModel(net, initial_state=rs.initial.Zeros(at=at))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(windows(size, seed=0), epochs=size.epochs, verbose=0)
    return model


def carried_or_reset(size):
    """Draw the level of a new tank as both networks tell it, and print their errors on all new tanks."""
    _, level = tanks(size, 1)
    names = {"window": ("each window from zeros", canvas.VERMILION), "start": ("state carried", canvas.BLUE)}
    figure, ((panel,),) = canvas.new_figure(height=3)
    canvas.mark_windows(panel, range(0, SHOWN + 1, LENGTH))
    panel.plot(level[0, -SHOWN:, 0], color=canvas.FAINT, linewidth=3.5, label="true level")
    for at, (label, colour) in names.items():
        values = np.stack(list(trained(size, at).predict(windows(size, 1), verbose=0).values()))
        print(f"{label}: RMSE {np.sqrt(np.mean((values - level) ** 2)):.3f}")
        panel.plot(values[0, -SHOWN:, 0], color=colour, linewidth=1.7, label=label)
    where = f"step (a new window begins at each dotted line, every {LENGTH} steps)"
    panel.set(xlabel=where, ylabel="level", xlim=(0, SHOWN))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=canvas.INK)
    return figure


def lanes(size):
    """Draw the plan of five sequences of different lengths in batches of three rows."""
    steps = {"north": 290, "south": 120, "east": 200, "west": 160, "centre": 100}
    return rs.plots.lanes(
        rs.Windows({key: np.zeros((count, 1)) for key, count in steps.items()}, length=LENGTH, batch_size=3)
    )


def states(at):
    """Return a function that draws the state of a network over some windows of a new tank."""
    return lambda size: rs.plots.states(trained(size, at), windows(size, 1), steps=SHOWN // 2)


def error_by_position(size):
    """Draw where in the window the network that carries its state is wrong, with its state and without it."""
    return rs.plots.error_by_position(trained(size, "start"), windows(size, 1))


def gradient_flow(size):
    """Draw how the loss of a window changes with the inputs at each step: plain, with `burn_in`, and with `back`."""
    length, lead = 20, 40
    ways = {
        f"length={length}": {},
        f"length={length}, burn_in={lead}": {"burn_in": lead},
        f"length={length}, back={length + lead}": {"back": length + lead},
    }
    figure, panels = canvas.new_figure(3, height=4.6, sharex=True, sharey=True)
    steps = np.arange(-lead, length)
    for (panel,), (name, how) in zip(panels, ways.items(), strict=True):
        norm = input_gradient(size, windows(size, 1, length=length, **how))
        panel.fill_between(
            steps, np.pad(norm, (lead + length - len(norm), 0)), color=canvas.BLUE, alpha=0.8, step="mid"
        )
        panel.axvline(-0.5, color=canvas.INK, linewidth=1)
        panel.set_title(name, loc="left", color=canvas.INK, fontsize=10, family="monospace")
        if "burn_in" in how:
            panel.axvspan(-lead - 0.5, -0.5, color=canvas.ORANGE, alpha=0.25, linewidth=0)
            where = {"transform": panel.get_xaxis_transform(), "ha": "center", "color": canvas.INK}
            panel.text(-lead / 2, 0.5, "run first, without a gradient", **where)
    panels[1, 0].set_ylabel("norm of the gradient of the window's loss")
    panels[2, 0].set(xlabel="step (the window, and its loss, begin at 0)", xlim=(-lead - 0.5, length - 0.5))
    return figure


def input_gradient(size, cut):
    """Return the norm of the gradient of the loss of a window by the inputs at each step of its batch, on JAX."""
    import jax

    model = trained(size, "start")
    index = len(cut) // 2
    batch, target, *_ = cut[index]
    x, _ = tanks(size, 1)
    # The state is carried up to the first step of the batch, which lies before the window with `burn_in` and `back`.
    begin = (index + 1) * cut.length - batch["x"].shape[1]
    _, state = model.step(x[:, :begin], model.initial_state(len(x)))
    model.states.write(cut.keys, state)
    batch = {**batch, "slot": model.states.reserve(cut.keys)}

    def loss(x):
        with keras.StatelessScope():
            return keras.ops.mean((model({**batch, "x": x}, training=True) - target) ** 2)

    return np.linalg.norm(jax.grad(loss)(batch["x"]), axis=(0, 2))


def thermal_house(_):
    """Draw the table that `examples/02_thermal_house.py --seeds 3 --docs docs/initial-states.md` has measured."""
    page = (DOCS / "initial-states.md").read_text().split("<!-- thermal table -->")[1].split("<!-- end")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    figure, ((panel,),) = canvas.new_figure(height=4)
    for column, colour, marker in zip((1, 2, 3), (canvas.BLUE, canvas.VERMILION, canvas.GREEN), "osD", strict=True):
        label = f"served: {rows[0][column]}"
        for place, row in enumerate(rows[2:]):
            if row[column] != "-":
                mean, low, high = map(float, re.findall(r"[\d.]+", row[column]))
                at = place + 0.24 * (column - 2)
                panel.plot([low, high], [at, at], color=colour, linewidth=2)
                panel.plot(mean, at, marker, color=colour, markersize=8, label=label)
                panel.annotate(
                    f"{mean:.2f}", (high, at), (6, -3), textcoords="offset points", color=canvas.INK, fontsize=8
                )
                label = None
    panel.set_yticks(range(5), [row[0] for row in rows[2:]])
    panel.set(xscale="log", xlabel="RMSE of the air temperature (K): mean and range of three seeds", ylabel="trained")
    panel.set_xticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    panel.minorticks_off()
    panel.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=canvas.INK, fontsize=9)
    return figure


def tutorial_forecast(size):
    """Run the program of the tutorial, and draw its predictions."""
    page = (DOCS / "tutorial.md").read_text()
    program = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    names = {"print": lambda *_: None}
    exec(program if size is FULL else program.replace("epochs=15", "epochs=1"), names)
    return rs.plots.forecast(names["y"], names["whole"], length=50, name="level")


def demo_forecast(size):
    """Run `rnnstate demo`, and draw its predictions for a part of the test data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "demo")
        epochs = str(size.demo_epochs)
        command_line(["demo", "--epochs", epochs, "--out", str(path), "--no-report", "--quiet"])
        run = read_run(path)
        with as_file(files("rnnstate") / "data" / DEMO_DATA) as data:
            looked = look_at(run, read_table(str(data), run.settings.reading))
    key = next(iter(looked.true))
    pair = {key: looked.true[key]}, {key: looked.predicted[key]}
    return rs.plots.forecast(*pair, length=run.settings.window, name=run.settings.targets[0])


PICTURES = {
    "carried-or-reset": carried_or_reset,
    "lanes": lanes,
    "states-carried": states("start"),
    "states-reset": states("window"),
    "error-by-position": error_by_position,
    "gradient-flow": gradient_flow,
    "thermal-house": thermal_house,
    "tutorial-forecast": tutorial_forecast,
    "demo-forecast": demo_forecast,
}


def for_dark_pages(svg):
    """Return an SVG whose colours follow the page: a viewer that shows it on a dark page takes the dark colours."""
    for number, colour in enumerate(DARK):
        # White letters stand on coloured ground, and stay white.
        of = "(<(?!text)[^>]*)" if colour == "#ffffff" else "()"
        pattern = rf'{of}((?:fill|stroke)(?:: ?|=")){colour}'
        while re.search(pattern, svg):
            svg = re.sub(pattern, rf"\1\2var(--c{number})", svg)
    light, dark = (
        "".join(f"--c{number}:{colour};" for number, colour in enumerate(colours)) for colours in (DARK, DARK.values())
    )
    style = f"<style>svg{{{light}}} @media (prefers-color-scheme: dark) {{svg{{{dark}}}}}</style>"
    return svg.replace("<defs>", f"{style}<defs>", 1)


def save(figure, path):
    """Write a figure as an SVG for light and dark pages."""
    figure.savefig(path, metadata={"Date": None})
    path.write_text(for_dark_pages(re.sub(r"[ \t]+\n", "\n", path.read_text())))


def main():
    """Draw the pictures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PICTURES, action="append", help="draw this picture; may be repeated")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pictures (default: docs/)")
    parser.add_argument("--quick", action="store_true", help="small runs, whose pictures show little")
    arguments = parser.parse_args()
    mpl.rcParams.update(SVG)
    for name in arguments.only or PICTURES:
        save(PICTURES[name](QUICK if arguments.quick else FULL), arguments.out / f"{name}.svg")
        print(f"Wrote {arguments.out / name}.svg", flush=True)


if __name__ == "__main__":
    main()
