"""The assembly of one batch: the data of its windows, and the facts about them.

Facts say which sequence each row holds, whether the sequence begins, which steps exist, what is known, where the state
is reset, and how much of the state survives a gap.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rnnstate.windows.arrays import Array, Field
from rnnstate.windows.batch import Batch
from rnnstate.windows.gaps import Policy, kept
from rnnstate.windows.lead_in import Prefix
from rnnstate.windows.plan import Index, WindowPlan, of_batches
from rnnstate.windows.sequences import Fields, MissingSteps, Sequences


def assemble_batch(
    data: Sequences, plan: WindowPlan, index: Index, slot: Array, prefix: Prefix, policy: Policy, masked: bool
) -> Batch:
    """Return the inputs of batch `index`: its data and its facts.

    Args:
        data: The data of all sequences.
        plan: Which window each row of each batch holds.
        index: Number of the batch; or the numbers of several, which are stacked along a new first axis.
        slot: The sequence of each row, `(batch,)` or `(batches, batch)`.
        prefix: The steps that come before each window.
        policy: What survives a gap.
        masked: Whether batches have a mask.
    """
    exist = prefix.exist(plan, index) if prefix.steps or masked else None
    before = exist if prefix.steps else None
    return Batch(
        x=gather(data.x, plan, index, prefix=True),
        slot=slot,
        first=of_batches(plan.first, index).copy(),
        mask=None if exist is None else np.concatenate([exist, _valid(plan, index)], axis=-1),
        observed=None if data.observed is None else _each(partial(data.observed.batch, plan), index),
        reset=None if data.resets is None else _values(data.resets, plan, index, prefix=True) > 0,
        keep=None if data.missing is None else _each(partial(_keep, data.missing, policy, plan), index),
        burn_in=None if prefix.gradient else before,
        context=before if prefix.gradient else None,
        last=of_batches(plan.last, index).copy() if prefix.steps else None,
        ends=_ends(data.y, plan, index),
    )


def share_starts(data: Sequences, plan: WindowPlan, policy: Policy) -> dict[str, float]:
    """Return which shares of the windows of a plan are carried, reset and fresh. Empty rows do not count.

    Args:
        data: The data of all sequences.
        plan: Which window each row of each batch holds.
        policy: What survives a gap.
    """
    held, fresh = plan.sequence >= 0, plan.first
    reset = np.zeros_like(held)
    # The first step of each window among the steps of all sequences in a row.
    start = (np.cumsum(data.lengths) - data.lengths)[plan.sequence] + plan.start
    if data.resets is not None:
        flagged = np.concatenate(list(data.resets.arrays)) > 0
        before = np.concatenate([[0], np.cumsum(flagged)])  # how many steps are flagged before each step
        reset |= before[start + plan.steps] > before[start]
    if data.missing is not None:
        reset |= kept(np.concatenate(list(data.missing))[start], policy) == 0
    flags = {"carried": ~fresh & ~reset, "reset": ~fresh & reset, "fresh": fresh}
    return {name: float((flag & held).sum() / held.sum()) for name, flag in flags.items()}


def _ends(targets: Fields, plan: WindowPlan, index: Index) -> Any:
    """Return 1 at the last window of each sequence, else 0, `(batch,)`, for each target per sequence."""
    names = [name for name, field in targets.items() if field.kind == "sequence"]
    parts = {name: of_batches(plan.ends, index).astype(np.float32) for name in names}
    return parts.get(None, parts) if parts else None


def _valid(plan: WindowPlan, index: Index) -> Array:
    """Return which steps of each window are data and not padding, `(batch, length)`."""
    valid: Array = np.arange(plan.length) < of_batches(plan.steps, index)[..., None]
    return valid


def gather(fields: Fields, plan: WindowPlan, index: Index, prefix: bool = False) -> Any:
    """Return the arrays of batch `index`: one array, or a mapping by name if the fields have names."""
    parts = {name: _values(field, plan, index, prefix) for name, field in fields.items()}
    return parts.get(None, parts)


def _values(field: Field, plan: WindowPlan, index: Index, prefix: bool) -> Array:
    return field.stacked(plan, index, prefix) if isinstance(index, range) else field.batch(plan, index, prefix)


def _each(make: Callable[[int], Array], index: Index) -> Array:
    """Return what `make` makes of a batch, or of each of several."""
    return np.stack([make(one) for one in index]) if isinstance(index, range) else make(index)


def _keep(missing: MissingSteps, policy: Policy, plan: WindowPlan, index: int) -> Array:
    """Return how much of the state survives before each window, `(batch,)`; 1 in empty rows."""
    # Only the gap before the first step of a window counts: a window never has a gap inside.
    windows = zip(plan.sequence[index].tolist(), plan.start[index].tolist(), strict=True)
    steps = np.array([0 if sequence < 0 else missing[sequence][start] for sequence, start in windows])
    return np.asarray(kept(steps, policy), dtype=np.float32)
