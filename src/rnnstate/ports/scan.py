"""The explicit loop over a window, for any cell, with a mask and with resets before any step.

Keras' loop runs wherever its result is right. The loop in this file defines the meaning of masked steps and of resets. It
runs where Keras' loop cannot: for resets, and for custom cells with a mask.
"""

import inspect
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, cast

from keras import layers, ops, tree

from rnnstate.state.state import Array


def scan_cell(
    layer: Any,
    x: Array,
    state: Any,
    mask: Array | None,
    training: bool,
    reset: Array | None = None,
    initial: Any = None,
) -> tuple[Array, Any]:
    """Run the cell of a recurrent layer over a window.

    Args:
        layer: The recurrent layer.
        x: Input `(batch, time, ...)`.
        state: Leaves that the window starts from, in the nesting of the cell.
        mask: Boolean `(batch, time)` of the valid steps. Other steps keep the leaves and repeat the output. `None` if all
            steps are valid.
        training: Whether dropout is active.
        reset: Boolean `(batch, time)` of the steps before which every leaf of the row returns to `initial`.
        initial: Leaves after a reset, in the nesting of the cell.

    Returns:
        The layer's output, and the leaves after the last valid step.
    """
    state = _in_compute_dtype(layer, state)
    # This call also draws the dropout masks of the window. A draw inside the loop would change the seed of its trace.
    y, _ = _call(layer.cell, x[:, 0], state, training)
    before = [ops.zeros_like(y), *tree.flatten(state)]
    always = ops.ones(ops.shape(x)[:2], dtype="bool")
    flags = (always if mask is None else mask, ops.logical_not(always) if reset is None else reset)
    start = tree.flatten(state if initial is None else _in_compute_dtype(layer, initial))

    def one_step(old: Any, step: Any) -> tuple[Any, Any]:
        x_t, valid, fresh = step
        leaves = [_where(fresh, *pair) for pair in zip(start, old[1:], strict=True)]
        y, after = _call(layer.cell, x_t, tree.pack_sequence_as(state, leaves), training)
        new = [_where(valid, *pair) for pair in zip([y, *tree.flatten(after)], [old[0], *leaves], strict=True)]
        return new, new  # TensorFlow requires the same structure in the stacked and the carried results

    by_time = [ops.swapaxes(part, 0, 1) for part in (x, *flags)]
    last, steps = ops.scan(one_step, before, tuple(by_time))
    _forget_dropout(layer.cell)
    outputs = ops.swapaxes(steps[0], 0, 1)
    if layer.zero_output_for_mask and mask is not None:
        outputs = ops.where(_right_padded(mask, outputs), outputs, ops.zeros_like(outputs))
    return outputs if layer.return_sequences else last[0], tree.pack_sequence_as(state, last[1:])


def _in_compute_dtype(layer: Any, state: Any) -> Any:
    return tree.map_structure(lambda leaf: ops.cast(leaf, layer.compute_dtype), list(state))


def _where(rows: Array, one: Array, other: Array) -> Array:
    return ops.where(_right_padded(rows, other), one, other)


def _right_padded(flags: Array, like: Array) -> Array:
    """Append axes to flags until they have the rank of `like`. Broadcasting would align them from the right."""
    rank = len(flags.shape)
    return ops.reshape(flags, (*ops.shape(flags), *[1] * (len(like.shape) - rank)))


def _call(cell: Any, x: Array, state: Any, training: bool) -> Any:
    takes_training = _takes_training(cast(Hashable, type(cell)))
    y, after = cell(x, state, training=training) if takes_training else cell(x, state)
    return y, after if tree.is_nested(after) else [after]


@cache
def _takes_training(cell_class: Any) -> bool:
    return "training" in inspect.signature(cell_class.call).parameters


def _cells(cell: Any) -> Iterator[Any]:
    yield from cell.cells if isinstance(cell, layers.StackedRNNCells) else [cell]


def _forget_dropout(cell: Any) -> None:
    for one in _cells(cell):
        if hasattr(one, "reset_dropout_mask"):
            one.reset_dropout_mask()
            one.reset_recurrent_dropout_mask()


def step_by_step(
    port: Any, x: Array, state: dict[str, Array], mask: Array | None, training: bool, reset: Array, initial: Any
) -> tuple[Array, dict[str, Array]]:
    """Run any port with resets inside the window: one call per step, and a choice of rows before each call."""
    outputs: list[Array] = []
    for t in range(x.shape[1]):
        state = {name: _where(reset[:, t], initial[name], leaf) for name, leaf in state.items()}
        valid = None if mask is None else mask[:, t : t + 1]
        y, state = port.call(x[:, t : t + 1], state, mask=valid, training=training)
        if valid is not None and outputs and len(y.shape) == 2:
            y = _where(valid[:, 0], y, outputs[-1])
        outputs.append(y)
    return ops.concatenate(outputs, axis=1) if len(outputs[0].shape) > 2 else outputs[-1], state
