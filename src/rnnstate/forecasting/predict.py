"""A trained model over series: its state is carried, and the result says where each key stands afterwards."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.forecasting.continuation import Place, Standing, Starts
from rnnstate.forecasting.examples import Array
from rnnstate.forecasting.series import Series, clip_spans
from rnnstate.forecasting.times import show_tick
from rnnstate.state.state import State
from rnnstate.windows.scaling import Scaling

# A carried state makes any length of windows exact. Longer windows need fewer calls.
_SERVE_LENGTH = 1024
_SERVE_ROWS = 256


def advance(
    model: Any,
    series: Sequence[Series],
    scaling: Scaling,
    bounds: Sequence[tuple[int, int]] | None = None,
    starts: Starts | None = None,
) -> tuple[list[Array], Standing]:
    """Run the rows `bounds` of each series through the model. The state is carried within each span.

    Args:
        model: A trained `StatefulModel`.
        series: The data.
        scaling: Scaling measured on the training part.
        bounds: First row of each series and the row after its last. The default is all rows.
        starts: States that the first span of each series starts from. The default is the initial state.

    Returns:
        For each series the outputs in the data's own units `(time, targets)`, NaN in other rows; and where each key
        stands after its last row.
    """
    bounds = [(0, len(one)) for one in series] if bounds is None else bounds
    spans = [clip_spans(one.spans, *bound) for one, bound in zip(series, bounds, strict=True)]
    counts = np.array([len(part) for part in spans])
    arrays = [
        scaling.scale(one.values[start:stop])
        for one, part in zip(series, spans, strict=True)
        for start, stop in part.tolist()
    ]
    # Spans of all series, one after another, are the rows of `begin`: `at` is the first span of each series that continues.
    #   series      a a a b c c       counts   3 1 2
    #   row         0 1 2 3 4 5       at       0 3 4
    begin = model.initial_state(len(arrays)).numpy()
    if starts is not None:
        taken = np.flatnonzero((starts.rows >= 0) & (counts > 0))
        at = (np.cumsum(counts) - counts)[taken]
        for name, leaf in begin.items():
            leaf[at] = np.asarray(starts.state[name])[starts.rows[taken]]
    outputs, final = serve(model, arrays, begin)
    ends = _ends(model, counts, final)
    places = tuple(_place(one, part, high) for one, part, (_, high) in zip(series, spans, bounds, strict=True))
    kind = series[0].kind if series and series[0].ticks is not None else None
    standing = Standing(places, ends, kind=kind, zoned=bool(series) and series[0].zoned)
    return _unscaled(series, spans, outputs, scaling, model.net.output_shape[-1]), standing


def serve(model: Any, arrays: Sequence[Array], state: Mapping[str, Any]) -> tuple[list[Array], State]:
    """Return the outputs `(time, targets)` for each array `(time, inputs)`, and the state after each."""
    if not arrays:
        return [], State(state)
    from rnnstate.windows.windows import Windows

    length = min(max(len(array) for array in arrays), _SERVE_LENGTH)
    windows = Windows(list(arrays), length=length, batch_size=min(len(arrays), _SERVE_ROWS))
    outputs, final = model.predict(windows, initial_state=state, return_state=True, verbose=0)
    return [outputs[key] for key in windows.keys], final.numpy()


def serve_reset(
    model: Any, series: Sequence[Series], scaling: Scaling, lows: Sequence[int], window: int
) -> list[Array]:
    """Return the outputs for the rows from `lows` on. Each window of `window` steps starts from the initial state."""
    spans = [
        np.array(
            [
                (begin, min(begin + window, stop))
                for start, stop in clip_spans(one.spans, low, len(one)).tolist()
                for begin in range(start, stop, window)
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        for one, low in zip(series, lows, strict=True)
    ]
    arrays = [
        scaling.scale(one.values[start:stop])
        for one, part in zip(series, spans, strict=True)
        for start, stop in part.tolist()
    ]
    outputs, _ = serve(model, arrays, model.initial_state(len(arrays)).numpy())
    return _unscaled(series, spans, outputs, scaling, model.net.output_shape[-1])


def _place(series: Series, spans: NDArray[np.int64], high: int) -> Place:
    time = None
    if series.ticks is not None and len(spans):
        time = show_tick(float(series.ticks[spans[-1, 1] - 1]), series.kind)
    ticks = np.zeros(0) if series.ticks is None else series.ticks[:high][~np.isnan(series.ticks[:high])]
    until = show_tick(float(ticks[-1]), series.kind) if len(ticks) else None
    return Place(series.key, time, series.step, bool(len(spans)) and int(spans[-1, 1]) == high, until)


def _ends(model: Any, counts: NDArray[np.int64], final: State) -> State:
    """Return the state after the last span of each series, or the initial state if a series has no span."""
    ends: State = model.initial_state(len(counts)).numpy()
    some = np.flatnonzero(counts > 0)
    for name, leaf in ends.items():
        leaf[some] = final[name][np.cumsum(counts)[some] - 1]
    return ends


def _unscaled(
    series: Sequence[Series],
    spans: Sequence[NDArray[np.int64]],
    outputs: Sequence[Array],
    scaling: Scaling,
    targets: int,
) -> list[Array]:
    remaining = iter(outputs)
    predictions = []
    for one, part in zip(series, spans, strict=True):
        values = np.full((len(one), targets), np.nan)
        for start, stop in part.tolist():
            values[start:stop] = scaling.unscale(np.asarray(next(remaining), dtype=np.float64))
        predictions.append(values)
    return predictions
