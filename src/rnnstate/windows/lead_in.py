"""Steps before a window that come with it: burn-in, and the context through which the gradient flows too.

Both put the same steps into a batch; what a model does with them differs. Burn-in refreshes a stale state and carries
no gradient. Context is what TBPTT(k1, k2) adds when it moves by k1 steps and propagates back through k2.
"""

from dataclasses import dataclass, replace

import numpy as np

from rnnstate.errors import DataError
from rnnstate.windows.batch import Batch
from rnnstate.windows.counts import check_count
from rnnstate.windows.plan import WindowPlan


@dataclass(frozen=True)
class Prefix:
    """How many steps come before each window, and as what.

    Args:
        steps: Their number.
        gradient: Whether gradient flows into them: they are then context, and burn-in otherwise.
    """

    steps: int = 0
    gradient: bool = False

    @classmethod
    def read(cls, length: int, burn_in: int | None, back: int | None, vary: bool) -> "Prefix":
        """Read the arguments `burn_in` and `back` of `Windows`.

        Raises:
            DataError: If both are given, or `back` does not cover the window.
        """
        if burn_in and back:
            raise DataError(
                f"`burn_in` and `back` exclude each other. Received: burn_in={burn_in!r}, back={back!r}. "
                "Take `back` if gradient shall flow through the steps before a window, else `burn_in`."
            )
        if back is not None and check_count("back", back) < length:
            raise DataError(
                f"`back` must be at least `length`, {length}. Received: back={back}. It counts the steps of the window and "
                "those before it."
            )
        burn_in = 0 if burn_in is None else check_count("burn_in", burn_in, least=0)
        prefix = cls(burn_in) if back is None else cls(back - length, gradient=True)
        if vary and prefix.steps:
            raise DataError(
                "`vary` draws how far a window reaches, so no fixed number of steps is before the next one. Received: "
                f"`vary` with {'context' if prefix.gradient else 'burn_in'} of {prefix.steps} steps. Take one of them."
            )
        return prefix

    def add_to(self, batch: Batch, plan: WindowPlan, index: int, masked: bool) -> Batch:
        """Return `batch`, which is batch `index` of the plan, with its mask and with the steps before its windows.

        Args:
            batch: The batch.
            plan: The plan of the epoch.
            index: Number of the batch in the plan.
            masked: Whether the batches of the dataset have a mask.
        """
        exist = np.arange(self.steps, 0, -1) <= plan.before[index][:, None]
        if masked:
            valid = np.arange(plan.length) < plan.steps[index][:, None]
            batch = replace(batch, mask=np.concatenate([exist, valid], axis=1))
        if not self.steps:
            return batch
        batch = replace(batch, last=plan.last[index].copy())
        return replace(batch, context=exist) if self.gradient else replace(batch, burn_in=exist)


def run_lengths(length: int, lead: int) -> set[int]:
    """Return the numbers of steps in which a training step runs windows of `length` with `lead` steps before them.

    The steps before a window are run up to where those before the next window begin, where the state is kept.

    Example:

    >>> sorted(run_lengths(12, 5)), run_lengths(12, 24)
    ([5, 7, 12], {12})
    """
    cut = min(lead, length)
    return {length, *({cut, lead - cut, length - cut} if lead else ())} - {0}
