"""The figure that a plot draws on: white ground, dark ink, colours that colour-blind readers can tell apart.

matplotlib is imported when a figure is made. Figures are objects of their own: `pyplot`, its windows and its settings stay
untouched. The ground is white in every viewer, so a figure can be read on a dark page too.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnstate.errors import DataError

INK, FAINT = "#1f2328", "#8b949e"
# Okabe and Ito, "Color universal design" (2008), without yellow, which is faint on white.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DARK = (BLUE, VERMILION, GREEN)  # white text can be read on these
WIDTH = 8.0


def new_figure(rows: int = 1, columns: int = 1, height: float = 3.2, **how: Any) -> tuple[Any, Any]:
    """Return a figure and its panels `(rows, columns)`.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        height: Height of the figure in inches. Its width is 8 inches.
        how: Further arguments of `Figure.subplots`.

    Raises:
        DataError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError(
            'Plots need matplotlib. Received: no such package. Run `pip install "rnnstate[plot]"`.'
        ) from error
    figure = Figure(figsize=(WIDTH, height), facecolor="white", layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **how)
    for panel in panels.flat:
        _prepare(panel)
    return figure, panels


def _prepare(panel: Any) -> None:
    panel.set_facecolor("white")
    panel.spines[["top", "right"]].set_visible(False)
    for spine in panel.spines.values():
        spine.set_color(FAINT)
    panel.tick_params(which="both", colors=INK, labelsize=9)
    for text in (panel.title, panel.xaxis.label, panel.yaxis.label):
        text.set(color=INK, fontsize=10)


def mark_windows(panel: Any, starts: Iterable[float]) -> None:
    """Draw a dotted line where each window begins."""
    for start in starts:
        panel.axvline(start, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)


def mark(panel: Any, place: float, label: str, colour: str = INK) -> None:
    """Draw a dashed line at a place of the horizontal axis, which the legend names."""
    if np.isfinite(place):
        panel.axvline(place, color=colour, linewidth=1.2, linestyle="--", label=label, zorder=1)


def add_legend(panel: Any, **where: Any) -> None:
    """Add a legend without a frame."""
    panel.legend(**{"frameon": False, "fontsize": 9, "labelcolor": INK, **where})


def add_colour_bar(figure: Any, picture: Any, panels: Any, label: str) -> None:
    """Add a scale of colours with a label."""
    bar = figure.colorbar(picture, ax=panels, pad=0.01, fraction=0.03, aspect=10)
    bar.set_label(label, color=INK, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=8)


def shown(key: Any, limit: int = 24) -> str:
    """Return a key as a label. Dollar signs and a leading underscore would mean something to matplotlib."""
    text = str(key)
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return text.replace("$", r"\$").lstrip("_") or repr(key)
