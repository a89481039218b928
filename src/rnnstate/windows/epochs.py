"""The plan of each epoch: a pure function of seed and epoch, so that training resumes exactly where it stopped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnnstate.windows.cuts import Cuts
from rnnstate.windows.plan import WindowPlan, plan_windows
from rnnstate.windows.varied_lengths import Vary, plan_varying


@dataclass(frozen=True, eq=False)
class Schedule:
    """Everything that decides the plan of an epoch.

    Args:
        lengths: Steps of each sequence.
        length: Steps of a window.
        batch_size: Rows of a batch at most.
        order: Name of an order.
        cuts: For each sequence, the steps at which a window must begin.
        prefix: How many steps come before each window.
        vary: How window lengths are drawn, or `None` if they are fixed.
        seed: Seed of everything random.
    """

    lengths: NDArray[np.int64]
    length: int
    batch_size: int
    order: str
    cuts: Cuts | None
    prefix: int
    vary: Vary | None
    seed: int

    @property
    def changes(self) -> bool:
        """Whether one epoch differs from another."""
        return self.vary is not None or self.order == "shuffled"

    def plan(self, epoch: int) -> tuple[WindowPlan, NDArray[np.float64]]:
        """Return the plan of an epoch, and the steps of each of its batches in relation to `length`."""
        if self.vary is not None:
            plan, steps = plan_varying(
                self.lengths, self.length, self.batch_size, self.vary, cuts=self.cuts, seed=self.seed, epoch=epoch
            )
            return plan, steps / self.length
        plan = plan_windows(
            self.lengths,
            self.length,
            self.batch_size,
            self.order,
            cuts=self.cuts,
            seed=self.seed,
            epoch=epoch,
            prefix=self.prefix,
        )
        return plan, np.ones(plan.num_batches)


@dataclass(frozen=True, eq=False)
class Fixed:
    """One plan for all epochs.

    Args:
        fixed: The plan.
    """

    fixed: WindowPlan
    changes = False
    vary = None

    def plan(self, epoch: int) -> tuple[WindowPlan, NDArray[np.float64]]:
        """Return the plan, and 1 for each of its batches."""
        del epoch
        return self.fixed, np.ones(self.fixed.num_batches)
