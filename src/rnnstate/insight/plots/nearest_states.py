"""Nearest states: where, in all sequences, the model was in a state like this one, and what happened there."""

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from rnnstate.errors import UnknownKeyError
from rnnstate.insight.numbers.components import nearest_steps
from rnnstate.insight.plots.canvas import COLOURS, INK, add_legend, mark, new_figure, shown
from rnnstate.insight.watched import Watched, as_watched
from rnnstate.messages import listed


def neighbours(
    source: Any,
    windows: Any = None,
    *,
    key: Hashable | None = None,
    step: int | None = None,
    count: int = 4,
    around: int = 24,
    signals: Any = None,
    keys: Iterable[Hashable] | None = None,
    steps: int = 512,
) -> Any:
    """Draw a signal around the states that are nearest to one state.

    If the signal looks alike around all of them, the state stands for this pattern.

    Args:
        source: A `StatefulModel`, or the trace of `model.trace`, leaves `(batch, time, *shape)`.
        windows: `Windows`, for a model.
        key: The sequence of the state. The default is the first one.
        step: The step of the state. Negative steps count from the end. The default is a step in the middle.
        count: How many neighbours.
        around: How many steps to show before and after.
        signals: What to draw, `(rows, time)`. The default is the first input of a model, or the first unit of a trace.
        keys: The sequences to search. The default is up to eight of the longest ones.
        steps: How many steps of each sequence to search.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        UnknownKeyError: If `key` is not among the sequences that are searched.
        DataError: If `source` is no trace, or matplotlib is not installed.

    Example:

    >>> wave = np.sin(np.arange(90) / 4)
    >>> trace = State({"gru/h": np.stack([wave, np.cos(np.arange(90) / 4)], axis=-1)[None]})
    >>> figure = neighbours(trace, step=50, count=2)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['0, step 50 (this state)', '0, step 25, distance 0.033', '0, step 75, distance 0.033', 'step of the state']
    """
    watched = as_watched(source, windows, keys, steps=steps)
    if key is not None and key not in watched.keys:
        raise UnknownKeyError(f"`key` must be one of {listed(watched.keys, 8)}. Received: {key!r}. Name it in `keys`.")
    row = 0 if key is None else watched.keys.index(key)
    every = range(int(watched.valid[row].sum()))
    step = every[len(every) // 2 if step is None else step]
    places = nearest_steps(watched.vectors, watched.valid, row, step, count)
    drawn, label = _signal(watched) if signals is None else (np.asarray(signals), "signal")
    figure, panels = new_figure()
    panel = panels[0, 0]
    _draw(panel, drawn, watched, (row, step), around, INK, " (this state)")
    for number, (near, at) in enumerate(places.tolist()):
        apart = float(np.linalg.norm(watched.vectors[near, at] - watched.vectors[row, step]))
        _draw(panel, drawn, watched, (near, at), around, COLOURS[number % len(COLOURS)], f", distance {apart:.2g}")
    mark(panel, 0, "step of the state")
    panel.set(xlabel="steps from the state", ylabel=label)
    add_legend(panel, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _signal(watched: Watched) -> tuple[Any, str]:
    """Return the first number of the inputs, or of the state if there are no inputs, `(rows, time)`."""
    if watched.sample is not None and any(watched.sample.series):
        from keras import tree

        parts = tree.flatten(watched.sample.x)
        part = parts[watched.sample.series.index(True)]
        return part.reshape(*part.shape[:2], -1)[:, :, 0], "first input"
    return watched.vectors[:, :, 0], f"{next(iter(watched.leaves))}, unit 0"


def _draw(panel: Any, drawn: Any, watched: Watched, place: Any, around: int, colour: str, note: str) -> None:
    row, at = place
    steps = np.arange(max(0, at - around), min(int(watched.valid[row].sum()), at + around + 1))
    width = 2.4 if colour == INK else 1.3
    label = f"{shown(watched.keys[row], 16)}, step {at}{note}"
    panel.plot(steps - at, drawn[row, steps], color=colour, linewidth=width, label=label)
