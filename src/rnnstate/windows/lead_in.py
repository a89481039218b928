"""The steps that come before each window: burn-in without gradient, or context with gradient.

Both put the same steps into a batch; what a model does with them differs. Burn-in refreshes a stale state and carries
no gradient. Context is what TBPTT(k1, k2) adds when it moves by k1 steps and propagates back through k2.
"""

from dataclasses import dataclass

import numpy as np

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array
from rnnstate.windows.counts import check_count
from rnnstate.windows.plan import Index, WindowPlan, of_batches


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
                "Take `back` if the gradient must flow through the steps before a window, else `burn_in`."
            )
        if back is not None and check_count("back", back) < length:
            raise DataError(
                f"`back` must be at least `length`, {length}. Received: back={back}. It counts the steps of the window and "
                "the steps before it."
            )
        burn_in = 0 if burn_in is None else check_count("burn_in", burn_in, least=0)
        prefix = cls(burn_in) if back is None else cls(back - length, gradient=True)
        if vary and prefix.steps:
            raise DataError(
                "`vary` draws how far a window reaches, so no fixed number of steps is before the next one. Received: "
                f"`vary` with {'context' if prefix.gradient else 'burn_in'} of {prefix.steps} steps. Take one of them."
            )
        return prefix

    def exist(self, plan: WindowPlan, index: Index) -> Array:
        """Return which of the steps before each window of batch `index` exist, `(batch, steps)`.

        A window may have fewer steps before it, at the begin of its sequence or after a cut. Then the last places count:

            place      0      1      2    | window
            exists   False   True   True  | ...       two of three steps exist
        """
        exist: Array = np.arange(self.steps, 0, -1) <= of_batches(plan.before, index)[..., None]
        return exist


def run_lengths(length: int, lead: int) -> set[int]:
    """Return the numbers of steps in which a training step runs windows of `length` with `lead` steps before them.

    A training step runs in parts, because it keeps the state at the point where the next window's lead-in begins.

    Example:

    >>> sorted(run_lengths(12, 5)), run_lengths(12, 24)
    ([5, 7, 12], {12})
    """
    cut = min(lead, length)
    return {length, *({cut, lead - cut, length - cut} if lead else ())} - {0}
