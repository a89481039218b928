"""Draw docs/carried-or-reset.svg from a real run, and print its numbers: `python docs/pictures.py` (about a minute on JAX).

A tank fills and empties at a measured rate, and a network tells the level from the rate, in windows of 50 steps. One network
is trained and served with its state carried from window to window, the other from zeros in each window.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

PICTURE = Path(__file__).with_name("carried-or-reset.svg")
SERIES, STEPS, LENGTH, SHOWN = 12, 1000, 50, 400
INK, CARRIED, RESET = "#7d8590", "#2f81f7", "#e5730b"  # readable on white and on black


def tanks(seed):
    """Return measured rates and true levels, both `(series, time, 1)`."""
    rng = np.random.default_rng(seed)
    period = rng.uniform(20, 40, size=(SERIES, 1))
    rate = np.sin(np.arange(STEPS) / period) + rng.normal(scale=0.3, size=(SERIES, STEPS))
    level = np.zeros((SERIES, STEPS))
    for t in range(1, STEPS):
        level[:, t] = 0.99 * level[:, t - 1] + 0.05 * rate[:, t]
    return rate[..., None].astype("float32"), level[..., None].astype("float32")


def predicted(start):
    """Train a network on tanks, and return its predictions for others; `start` says where a window starts."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(16, return_sequences=True), keras.layers.Dense(1)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, 1)), *layers]), initial_state=start)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(rs.Windows(*tanks(seed=0), length=LENGTH, batch_size=SERIES), epochs=60, verbose=0)
    x, _ = tanks(seed=1)
    return np.stack(list(model.predict(rs.Windows(x, length=LENGTH, batch_size=SERIES), verbose=0).values()))


def main():
    """Train both networks, print their errors on new tanks, and draw one of these tanks."""
    _, level = tanks(seed=1)
    outputs = {"carried": predicted(rs.initial.Zeros()), "reset": predicted(rs.initial.Zeros(at="window"))}
    for name, values in outputs.items():
        print(f"{name}: RMSE {np.sqrt(np.mean((values - level) ** 2)):.3f}")
    draw(level[0, -SHOWN:, 0], {name: values[0, -SHOWN:, 0] for name, values in outputs.items()})


def draw(level, outputs):
    """Write the picture."""
    mpl.use("svg")
    from matplotlib import pyplot

    ink = {f"{part}.color": INK for part in ("text", "xtick", "ytick")}
    grounds = {"axes.facecolor": "none", "figure.facecolor": "none", "axes.edgecolor": INK, "axes.labelcolor": INK}
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "rnnstate", "path.simplify_threshold": 0.5} | ink | grounds
    )
    figure, panel = pyplot.subplots(figsize=(8, 3))
    for start in range(0, SHOWN + 1, LENGTH):
        panel.axvline(start, color=INK, linewidth=0.5, linestyle=":")
    panel.plot(level, color=INK, linewidth=3, label="true level")
    panel.plot(outputs["reset"], color=RESET, linewidth=1.5, label="each window from zeros")
    panel.plot(outputs["carried"], color=CARRIED, linewidth=1.5, label="state carried")
    panel.set(
        xlabel=f"step (a new window begins at each dotted line, every {LENGTH} steps)", ylabel="level", xlim=(0, SHOWN)
    )
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(*panel.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
