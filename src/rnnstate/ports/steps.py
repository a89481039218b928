"""Where the steps of a window stand: which of them exist, and which memory each of them looks back to.

Layers that look back over a fixed number of steps, such as causal convolutions, need the n-th step before a step. Padding
and resets move it:

    steps of a row   0 1 2 3 4 5
    mask             1 1 0 1 1 0
    rank             0 1 1 2 3 3    how many steps exist before this step; after padding, the rank of the last step
    order            0 1 3 4 2 5    the existing steps, then the others
    reset            0 0 0 1 0 0
    start            0 0 0 2 2 2    the rank of the first step of the episode
"""

from typing import Any, NamedTuple

from keras import ops

from rnnstate.state.state import Array


class Steps(NamedTuple):
    """Where the steps of a window stand.

    Args:
        order: Int `(batch, time)`: the indices of the steps that exist, in order of time, then the other steps. `None` if
            all steps exist.
        rank: Int `(batch, time)`: the place of each step among the steps that exist.
        count: Int `(batch,)`: how many steps exist.
        start: Int `(batch, time)`: the rank of the first step since the last reset; 0 before any reset.
        again: Boolean `(batch, time)`: whether a reset came before, so that nothing from earlier windows is remembered.
    """

    order: Array | None
    rank: Array
    count: Array
    start: Array
    again: Array


def place(shape: tuple[Any, Any], mask: Array | None, reset: Array | None) -> Steps:
    """Return where the steps of a window stand.

    Args:
        shape: Batch size and number of steps.
        mask: Boolean `(batch, time)` of the steps that exist, or `None` if all do.
        reset: Boolean `(batch, time)`: before these steps a row returns to its initial state. `None` if no row does.
    """
    exists = ops.ones(shape, dtype="int32") if mask is None else ops.cast(mask, "int32")
    until = ops.cumsum(exists, axis=1)
    rank = ops.maximum(until - 1, 0)
    order = None if mask is None else _first_true(exists, shape[1])
    if reset is None:
        return Steps(order, rank, until[:, -1], ops.zeros_like(rank), ops.zeros_like(rank, dtype="bool"))
    flags = ops.cast(reset, "int32")
    resets = ops.cumsum(flags, axis=1)
    again = resets > 0
    # The last reset up to each step, then how many steps exist before it.
    last = ops.take_along_axis(_first_true(flags, shape[1]), ops.maximum(resets - 1, 0), axis=1)
    start = ops.where(again, ops.take_along_axis(until - exists, last, axis=1), 0)
    return Steps(order, rank, until[:, -1], start, again)


def _first_true(flags: Array, time: Any) -> Array:
    """Return the indices of the steps with a flag, then those of the other steps, int `(batch, time)`."""
    # Every key differs, so that the order does not depend on how a backend sorts equal keys.
    keys = ops.arange(time, dtype="int32") + (1 - flags) * time
    return ops.cast(ops.argsort(keys, axis=1), "int32")


def take_steps(x: Array, index: Array) -> Array:
    """Return the steps `index`, int `(batch, steps)`, of each row of `x`, `(batch, time, ...)`."""
    flat = ops.reshape(x, (ops.shape(x)[0], ops.shape(x)[1], -1))
    shape = (*ops.shape(index), ops.shape(flat)[2])
    taken = ops.take_along_axis(flat, ops.broadcast_to(index[..., None], shape), axis=1)
    return ops.reshape(taken, (*ops.shape(index), *ops.shape(x)[2:]))


def every(steps: Steps, count: int, first: int = 0) -> Steps:
    """Return where every `count`-th step stands, from step `first` of a window on."""
    if count == 1:
        return steps
    rank, start, again = (part[:, first::count] for part in (steps.rank, steps.start, steps.again))
    return steps._replace(rank=rank, start=start, again=again)


def existing(x: Array, steps: Steps) -> Array:
    """Return the steps of `x`, `(batch, time, ...)`, that exist, in order of time, then the others."""
    return x if steps.order is None else take_steps(x, steps.order)


def look_back(source: Array, back: int, steps: Steps, before: Array) -> Array:
    """Return the steps that come `before`, int `(reads,)`, each step of a window.

    Args:
        source: `(batch, back + back + time, ...)`: the initial memory, the carried memory and the existing steps.
        back: How many steps the memory holds.
        steps: Where the steps of the window stand.
        before: How many steps back each read is; 0 is the step itself, and `back` is the farthest read.

    Returns:
        `(batch, time * reads, ...)`.
    """
    rank = steps.rank[..., None] - before  # (batch, time, reads)
    start = steps.start[..., None]
    # What came before a reset is found in the initial memory, whose last entry stands just before `start`.
    old = ops.logical_and(steps.again[..., None], rank < start)
    index = 2 * back + rank - ops.where(old, back + start, 0)
    return take_steps(source, ops.reshape(ops.maximum(index, 0), (ops.shape(source)[0], -1)))


def remembered(past: Array, x: Array, steps: Steps, initial: Array) -> Array:
    """Return the memory after a window, `(batch, back, ...)`.

    Args:
        past: The memory before the window, `(batch, back, ...)`.
        x: The steps of the window, `(batch, time, ...)`.
        steps: Where they stand.
        initial: The memory to which a reset returns a row, `(batch, back, ...)`.
    """
    back = past.shape[1]
    source = ops.concatenate([initial, past, existing(x, steps)], axis=1)
    # The memory is what a step after the window looks back to.
    after = steps._replace(rank=steps.count[:, None], start=steps.start[:, -1:], again=steps.again[:, -1:])
    return look_back(source, back, after, ops.arange(back, 0, -1, dtype="int32"))


def only_existing(y: Array, mask: Array | None) -> Array:
    """Return an output `(batch, time, ...)` with zeros at the steps that do not exist."""
    if mask is None:
        return y
    flags = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(y.shape) - 2)))
    return ops.where(flags, y, ops.zeros_like(y))
