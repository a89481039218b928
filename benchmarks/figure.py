"""The plot of docs/performance.md: training side by side at three sizes, and how a step grows."""

from parts import SEQUENCES, SIZES

from rnnstate.benchplot import FLOOR, INK, OTHERS, OURS, draw_bars, new_figure, save


def draw(results, path):
    """Draw the figure."""
    figure, panels = new_figure(2, 3)
    for panel, units in zip(panels[0], SIZES, strict=True):
        parts = results[f"train-{units}"], results[f"train-{units}-tensorflow"]
        draw_bars(panel, {name: part.median(name) for part in reversed(parts) for name in part.times}, parts[0])
    _growth(panels[1][0], results["scaling-units"], "units")
    _growth(panels[1][1], results["scaling-window"], "steps of a window")
    _sequences(panels[1][2], results["sequences-jax"])
    figure.tight_layout()
    save(figure, path, path.suffix)


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
