"""A few sequences, run through a model, with the state before and after every step.

All numbers and plots of this package start from such a run. Resets, gaps and initial states act as they do in `predict`.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from rnnstate.errors import DataError, UnknownKeyError, UnsupportedModelError
from rnnstate.insight.sample import Sample, take_sample
from rnnstate.insight.windowed import LayerRun, needs_windows, run_windows
from rnnstate.messages import listed
from rnnstate.network.outputs import outputs_per_step
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]
Leaves = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Watched:
    """The states of some sequences over time, as NumPy arrays.

    Args:
        keys: The identity of each row.
        leaves: The state after every step, each `(rows, time, *shape)`.
        valid: Which steps hold data, bool `(rows, time)`.
        resets: Steps before which a row returned to its initial state, bool `(rows, time)`. The first step of a sequence is
            no reset.
        starts: The first step of each window, one array for each row.
        length: Steps of a window; `None` if it is not known.
        sample: The data that were run; `None` for a trace that the user gave.
        before: The state before every step, as `leaves`.
        outputs: The outputs at every step, `(rows, time, ...)`; `None` if there are several, or one for each window.
        runs: What each layer was given, by the path of its leaves, if a layer runs backward. The network then has outputs
            for whole windows alone.
    """

    keys: tuple[Hashable, ...]
    leaves: Leaves
    valid: Array
    resets: Array
    starts: tuple[Array, ...]
    length: int | None = None
    sample: Sample | None = None
    before: Leaves | None = None
    outputs: Array | None = None
    runs: Mapping[str, LayerRun] | None = None

    @property
    def vectors(self) -> Array:
        """All leaves side by side, `(rows, time, numbers of a state)`."""
        return side_by_side(self.leaves)


def watch(model: Any, windows: Any, keys: Iterable[Hashable] | None = None, rows: int = 8, steps: int = 512) -> Watched:
    """Run some sequences of `windows` from their start, and return the state at every step.

    Args:
        model: A `StatefulModel`.
        windows: `Windows`, or a run of them, which is returned as it is.
        keys: The sequences to run. The default is the longest ones.
        rows: How many sequences, if `keys` does not name them.
        steps: How many steps of each sequence at most.

    Raises:
        UnknownKeyError: If a key is no sequence of `windows`.
        UnsupportedModelError: If a layer runs backward, and its direction is carried, or there are resets or gaps; or if the
            network has strides over time.
    """
    if isinstance(windows, Watched):
        return windows
    if model.strides.total > 1:
        raise UnsupportedModelError(
            "A network must have a state after each step to be looked at step by step. Received: "
            f"{model.strides.described}. `model.trace(x, state)` returns the state after each group of steps."
        )
    sample = take_sample(windows, keys, rows, steps)
    whole = not (sample.resets.any() or (sample.keep < 1).any() or model.start.at == "window")
    runs = None
    if needs_windows(model.net):
        if not whole:
            raise UnsupportedModelError(
                "A network with a layer that runs backward must have windows without resets and gaps, and carry its state, "
                "to be looked at step by step. Received: resets, gaps, or an initial state at each window. "
                "Leave them out, or use a network without backward layers."
            )
        parts, before, after, runs = run_windows(model, sample)
        outputs = _one_output(
            tree.map_structure(lambda *one: np.concatenate(_with_time(map(to_numpy, one)), axis=1), *parts)
        )
    else:
        outputs, before, after = (_in_one_go if whole else _step_by_step)(model, sample)
    resets = sample.resets | (sample.keep == 0)
    if model.start.at == "window":
        resets |= sample.begins
    resets[:, 0] = False
    starts = tuple(np.flatnonzero(row) for row in sample.begins)
    outputs = outputs if all(outputs_per_step(model.net)) else None
    return Watched(sample.keys, after, sample.valid, resets, starts, sample.length, sample, before, outputs, runs)


def as_watched(
    source: Any, windows: Any = None, keys: Iterable[Hashable] | None = None, rows: int = 8, steps: int = 512
) -> Watched:
    """Return what a plot was given as `Watched`: a model with windows, or a trace with leaves `(rows, time, *shape)`.

    Raises:
        DataError: If it is neither.
    """
    if isinstance(source, Watched):
        return source
    if windows is not None:
        return watch(source, windows, keys, rows, steps)
    if not isinstance(source, Mapping):
        raise DataError(
            "The state must be a model together with `windows`, or a trace: the third result of `model.trace`, leaves "
            f"(batch, time, *shape). Received: {type(source).__name__} without `windows`."
        )
    return _from_trace(source, keys, steps)


def side_by_side(leaves: Mapping[str, Array]) -> Array:
    """Return leaves `(rows, time, *shape)` as one array `(rows, time, numbers)` of float64."""
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1).astype(np.float64) for leaf in leaves.values()], axis=-1)


def _from_trace(trace: Mapping[str, Any], keys: Iterable[Hashable] | None, steps: int) -> Watched:
    leaves = {name: to_numpy(leaf)[:, :steps] for name, leaf in trace.items()}
    flat = [name for name, leaf in leaves.items() if leaf.ndim < 3]
    if flat or not leaves:
        shape = leaves[flat[0]].shape if flat else ()
        raise DataError(
            f"A trace must have leaves (batch, time, *shape). Received: {flat[0] if flat else 'no leaf'}, shape={shape}. "
            "`model.trace(x, state)` returns one."
        )
    shape = next(iter(leaves.values())).shape[:2]
    names = tuple(range(shape[0])) if keys is None else tuple(keys)
    if len(names) != shape[0]:
        raise UnknownKeyError(f"`keys` must name the {shape[0]} rows of the trace. Received: {listed(names)}.")
    nothing = np.zeros(shape, bool)
    return Watched(names, leaves, ~nothing, nothing, tuple(np.zeros(1, np.int64) for _ in names))


def _in_one_go(model: Any, sample: Sample) -> tuple[Array | None, Leaves, Leaves]:
    start = model.initial_state(len(sample.keys), sample.observed_at(0))
    mask = None if sample.valid.all() else sample.valid
    y, _, trace = model.trace(sample.x, start, mask=mask)
    after = {name: to_numpy(leaf) for name, leaf in trace.items()}
    first = {name: to_numpy(start[name])[:, None] for name in after}
    before = {name: np.concatenate([first[name], leaf[:, :-1]], axis=1) for name, leaf in after.items()}
    return _one_output(y), before, after


def _step_by_step(model: Any, sample: Sample) -> tuple[Array | None, Leaves, Leaves]:
    """Take single steps, because the state of some row changes between two of them."""
    every = model.start.at == "window"
    state = model.initial_state(len(sample.keys), sample.observed_at(0)).numpy()
    outputs, before, after = [], [], []
    for step in range(sample.valid.shape[1]):
        keep = np.where(sample.resets[:, step] | (every & sample.begins[:, step]), 0.0, sample.keep[:, step])
        if (keep < 1).any():
            state = _faded(state, model.initial_state(len(keep), sample.observed_at(step)).numpy(), keep)
        before.append(state)
        y, final = model.step(sample.x_at(step), state, mask=sample.valid[:, step : step + 1])
        state = final.numpy()
        outputs.append(tree.map_structure(to_numpy, y))
        after.append(state)
    joined = tree.map_structure(lambda *parts: np.concatenate(_with_time(parts), axis=1), *outputs)
    return _one_output(joined), _stacked(before), _stacked(after)


def _faded(state: Mapping[str, Array], initial: Mapping[str, Array], keep: Array) -> State:
    """Move rows toward the initial state: `keep` is 1 where a row stays, 0 where it is reset; `(rows,)`."""

    def fade(leaf: Array, start: Array) -> Array:
        share = keep.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
        return np.where(share == 1, leaf, start + share * (leaf - start))

    return State({name: fade(leaf, initial[name]) for name, leaf in state.items()})


def _stacked(states: list[Any]) -> Leaves:
    return {name: np.stack([state[name] for state in states], axis=1) for name in states[0]}


def _with_time(parts: Iterable[Array]) -> list[Array]:
    return [part[:, None] if part.ndim < 3 else part for part in parts]


def _one_output(y: Any) -> Array | None:
    leaves = tree.flatten(y)
    return to_numpy(leaves[0]) if len(leaves) == 1 else None
