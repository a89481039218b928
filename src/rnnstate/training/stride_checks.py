"""The checks of windows for a network with strides over time: every window must hold whole groups of steps."""

from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.network.strides import Strides
from rnnstate.windows.batch import Batch, WindowDataset


def check_groups(strides: Strides, windows: WindowDataset) -> None:
    """Raise unless windows hold whole groups of steps.

    The flags of resets, and the masks of a dataset that a user made, are checked batch by batch (`check_flags`).

    Args:
        strides: The strides of the network.
        windows: The windows.

    Raises:
        DataError: If the length of the windows, or the number of steps before them, is no multiple of the total stride, if
            the lengths vary, or if a sequence, or a part of it between two gaps, ends with an incomplete group.
    """
    if strides.total < 2:
        return
    if windows.varies:
        raise DataError(
            f"Windows must have a multiple of {strides.total} steps, because the network has {strides.described}. Received: "
            "windows with `vary`, whose lengths are drawn. Leave out `vary`."
        )
    strides.check_steps(windows.length, "windows with `length`")
    strides.check_steps(windows.prefix, "`burn_in` or `back` with a lead")
    plan: Any = getattr(windows, "plan", None)
    if plan is not None:
        _check_plan(strides, windows, plan)


def _check_plan(strides: Strides, windows: WindowDataset, plan: Any) -> None:
    """Raise if a window of a plan ends with an incomplete group."""
    wrong = np.argwhere((plan.sequence >= 0) & (plan.steps % strides.total != 0))
    if not len(wrong):
        return
    batch, row = wrong[0]
    sequence, start, steps = (int(array[batch, row]) for array in (plan.sequence, plan.start, plan.steps))
    length, left = int(windows.lengths[sequence]), steps % strides.total
    ends = start + steps == length
    where = f"sequence {windows.keys[sequence]!r} with {length} steps" + (
        "" if ends else f", cut after {start + steps}"
    )
    way_out = (
        f"Leave out its last {left} step{'' if left == 1 else 's'}, or add {strides.total - left}"
        if ends
        else "Cut it at a multiple"
    )
    more = len(wrong) - 1
    others = f" So {'does 1 more window' if more == 1 else f'do {more} more windows'}." if more else ""
    raise DataError(
        f"Each sequence must have a multiple of {strides.total} steps, because the network has {strides.described}, and an "
        f"incomplete group of steps has no output. Received: {where}, which leaves {left} over.{others} {way_out}."
    )


def check_flags(strides: Strides, inputs: Any) -> None:
    """Raise unless the flags of a batch keep to whole groups of steps.

    Args:
        strides: The strides of the network.
        inputs: The inputs of a batch of windows.

    Raises:
        DataError: If a group is padding in part, or a reset stands inside of a group.
    """
    batch = Batch.from_keras(inputs)
    strides.check_batch(batch.mask, batch.reset)
