"""The plot of comparisons: a bar for each contender, a panel for each size, the floor as a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnstate.bench.compare import Comparison
from rnnstate.bench.table import UNIT, figures
from rnnstate.errors import DataError

SUFFIXES = (".svg", ".png", ".pdf")
INK = "#1f2328"
OURS, OTHERS, FLOOR = "#2f81f7", "#8b949e", "#d29922"
_LIGHT_INK = "#e6edf3"
# A viewer that shows the picture on a dark page selects this style.
_DARK = f"""<style>@media (prefers-color-scheme: dark) {{
[style*="{INK}"] {{ fill: {_LIGHT_INK} !important; }} [style*="stroke: {INK}"] {{ stroke: {_LIGHT_INK} !important; }}
}}</style>"""


def check_plot(path: Path) -> None:
    """Raise if a plot cannot be drawn there.

    Raises:
        DataError: If the suffix is unknown, or matplotlib is not installed.
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
            "svg.fonttype": "none",  # text stays text, so that the style above can change its colour
            "svg.hashsalt": "rnnstate",
            "axes.facecolor": "none",  # the ground of the figure, which `save` chooses, shows through
            "font.family": "sans-serif",
            **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
        }
    )
    return pyplot


def new_figure(rows: int, columns: int) -> tuple[Any, Any]:
    """Return a figure and its panels, row by row."""
    made: tuple[Any, Any] = _pyplot().subplots(rows, columns, figsize=(5.2 * columns, 4.2 * rows), squeeze=False)
    return made


def save(figure: Any, path: Path, suffix: str) -> None:
    """Write a figure; an SVG suits light and dark pages, other formats have a white background."""
    svg = suffix == ".svg"
    options = {"metadata": {"Date": None}} if svg else {}
    ground = "none" if svg else "white"
    figure.savefig(path, format=suffix[1:], facecolor=ground, bbox_inches="tight", **options)
    _pyplot().close(figure)
    if svg:
        head, tag, rest = path.read_text().partition("<defs>")
        path.write_text(f"{head}{_DARK}{tag}{rest}")


def draw(results: Sequence[Comparison], path: Path, suffix: str) -> None:
    """Draw comparisons side by side, in the format of the suffix."""
    figure, panels = new_figure(1, len(results))
    for panel, result in zip(panels[0], results, strict=True):
        draw_bars(panel, {name: result.median(name) for name in result.times}, result)
    figure.tight_layout()
    save(figure, path, suffix)


def draw_bars(panel: Any, medians: Mapping[str, float], result: Comparison) -> None:
    """Draw a bar for each contender, the fastest on top, with the floor of a comparison."""
    names = sorted(medians, key=lambda name: medians[name], reverse=True)
    colours = [OURS if name.startswith("rnnstate") else OTHERS for name in names]
    panel.barh(names, [medians[name] for name in names], color=colours)
    for place, name in enumerate(names):
        panel.text(medians[name], place, f" {figures(medians[name])}", va="center", fontsize=8)
    panel.axvline(result.floor(result.base), color=FLOOR, linestyle="--", label="floor")
    task = result.tasks[result.base]
    panel.set(xlabel=UNIT[result.kind], title=f"{task['units']} units, batch {task['batch']}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.15)
    panel.legend(frameon=False, loc="upper right")
