"""The plot of docs/performance.md: training side by side at three sizes, and how a step grows."""

from itertools import zip_longest

from parts import SEQUENCES, SIZES

from rnnstate.bench.plot import FLOOR, INK, OTHERS, OURS, draw_bars, new_figure, save

COLUMNS = 3


def draw(results, path):
    """Draw a panel for each part that was measured."""
    panels = {
        **{f"train-{units}": _bars for units in SIZES},
        "scaling-units": lambda panel, results, name: _growth(panel, results[name], "units"),
        "scaling-window": lambda panel, results, name: _growth(panel, results[name], "steps of a window"),
        "sequences-jax": lambda panel, results, name: _sequences(panel, results[name]),
    }
    measured = [name for name in panels if name in results]
    figure, grid = new_figure(-(-len(measured) // COLUMNS), COLUMNS)
    for panel, name in zip_longest(grid.flat, measured):
        panel.set_visible(name is not None)
        if name is not None:
            panels[name](panel, results, name)
    figure.tight_layout()
    save(figure, path, path.suffix)


def _bars(panel, results, name):
    parts = [results[part] for part in (name, f"{name}-tensorflow") if part in results]
    draw_bars(panel, {name: part.median(name) for part in reversed(parts) for name in part.times}, parts[0])


def _growth(panel, result, label):
    values = list(dict.fromkeys(int(name.split()[1]) for name in result.times))
    for name, colour in (("rnnstate-jax", OURS), ("torch-lstm", OTHERS)):
        panel.plot(values, [result.median(f"{name} {value}") for value in values], "o-", color=colour, label=name)
    floor = [result.floor(f"rnnstate-jax {value}") for value in values]
    panel.plot(values, floor, "--", color=FLOOR, label="floor")
    panel.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per training step")
    _finish(panel, values)


def _sequences(panel, result):
    base = str(SEQUENCES[0])
    low, middle, high = zip(*(result.ratio(str(count), base) for count in SEQUENCES), strict=True)
    panel.fill_between(SEQUENCES, low, high, color=OURS, alpha=0.25, linewidth=0)
    panel.plot(SEQUENCES, middle, "o-", color=OURS, label="rnnstate-jax")
    panel.axhline(1.05, color=FLOOR, linestyle="--", label="target")
    panel.set(xscale="log", ylim=(0, 1.5), xlabel="sequences", ylabel="step, times that of a hundred")
    _finish(panel, None)


def _finish(panel, ticks):
    if ticks:
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, labelcolor=INK)
