"""The plot of comparisons: a bar for each contender, a panel for each size, the floor as a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnnstate.benching import Comparison
from rnnstate.benchtable import UNIT
from rnnstate.errors import DataError

SUFFIXES = (".svg", ".png", ".pdf")
INK = "#1f2328"
OURS, OTHERS, FLOOR = "#2f81f7", "#8b949e", "#d29922"
_LIGHT_INK = "#e6edf3"
# Viewers that show the picture on a dark page say so to the picture.
_DARK = f"""<style>@media (prefers-color-scheme: dark) {{
[style*="{INK}"] {{ fill: {_LIGHT_INK} !important; }} [style*="stroke: {INK}"] {{ stroke: {_LIGHT_INK} !important; }}
}}</style>"""


def check_plot(path: Path) -> None:
    """Raise if a plot cannot be drawn there.

    Raises:
        DataError: If the suffix is none that is written, or matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"The plot must end in {', '.join(SUFFIXES)}. Received: {path}.")
    _pyplot()


def _pyplot() -> Any:
    try:
        import matplotlib
        from matplotlib import pyplot
    except ImportError as error:
        raise DataError(
            'Plots need matplotlib. Received: no such package. Run `pip install "rnnstate[plot]"`.'
        ) from error
    matplotlib.use("agg")
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none",  # text stays text, and takes the colour of the page
            "svg.hashsalt": "rnnstate",
            "font.family": "sans-serif",
            **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
        }
    )
    return pyplot


def save(figure: Any, path: Path, suffix: str) -> None:
    """Write a figure; an SVG suits light and dark pages, anything else has a white ground."""
    svg = suffix == ".svg"
    options = {"metadata": {"Date": None}} if svg else {}
    figure.savefig(path, format=suffix[1:], transparent=svg, facecolor="white", bbox_inches="tight", **options)
    _pyplot().close(figure)
    if svg:
        head, tag, rest = path.read_text().partition("<defs>")
        path.write_text(f"{head}{_DARK}{tag}{rest}")


def draw(results: Sequence[Comparison], path: Path, suffix: str) -> None:
    """Draw comparisons side by side, in the format of the suffix."""
    figure, panels = _pyplot().subplots(1, len(results), figsize=(5.2 * len(results), 4.2), squeeze=False)
    for panel, result in zip(panels[0], results, strict=True):
        draw_bars(panel, result)
    figure.tight_layout()
    save(figure, path, suffix)


def draw_bars(panel: Any, result: Comparison) -> None:
    """Draw a comparison, the fastest on top."""
    names = sorted(result.times, key=result.median, reverse=True)
    medians = [result.median(name) for name in names]
    panel.barh(names, medians, color=[OURS if name.startswith("rnnstate") else OTHERS for name in names])
    for place, median in enumerate(medians):
        panel.text(median, place, f" {median:.3g}", va="center", fontsize=8)
    panel.axvline(result.floor(result.base), color=FLOOR, linestyle="--", label="floor")
    task = result.tasks[result.base]
    panel.set(xscale="log", xlabel=UNIT[result.kind], title=f"{task['units']} units, batch {task['batch']}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.15)
    panel.legend(frameon=False, loc="lower right")
