"""What a batch says about its windows besides the data: known values, resets inside, and what survives a gap."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array, Field, check_field
from rnnstate.windows.batch import Batch
from rnnstate.windows.cuts import Cuts
from rnnstate.windows.forms import Form, in_form, read_rows
from rnnstate.windows.gaps import Policy, kept, read_gaps, read_policy
from rnnstate.windows.observed import Observed
from rnnstate.windows.plan import WindowPlan


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts of every sequence; `None` where a dataset has none of a kind.

    Args:
        observed: Known values from which the state before a window is computed.
        resets: Flags `(time,)`: the state is put back to its initial state before that step.
        gaps: Missing steps before each step, `(time,)` for each sequence.
        policy: What survives a gap.
    """

    observed: Observed | None = None
    resets: Field | None = None
    gaps: Sequence[NDArray[np.int64]] | None = None
    policy: Policy = "reset"

    @classmethod
    def read(
        cls,
        form: Form,
        lengths: NDArray[np.int64],
        *,
        observed: Any = None,
        resets: Any = None,
        times: Any = None,
        gaps: Any = None,
        step: Any = None,
        gap: Any = None,
    ) -> "Facts":
        """Read arguments of `Windows`; `form` is that of its `x`."""
        policy = read_policy(gap)
        irregular = any(given is not None for given in (times, gaps, step, gap))
        return cls(
            None if observed is None else Observed.read(observed, form, lengths),
            None if resets is None else _read_resets(resets, form, lengths),
            read_gaps(times, gaps, step, form, lengths) if irregular else None,
            policy,
        )

    def cuts(self) -> Cuts | None:
        """Return the steps at which a window must begin.

        They are those after a gap, and those of a reset where the initial state comes from a series of known values:
        a window has one row of these, which must be that of the reset.
        """
        marks: list[Sequence[Array] | Array] = [] if self.gaps is None else [self.gaps]
        if self.resets is not None and self.observed is not None and self.observed.series:
            marks.append(self.resets.rows)
        if not marks:
            return None
        cuts = (np.flatnonzero(np.logical_or.reduce([row > 0 for row in rows])) for rows in zip(*marks, strict=True))
        return [steps[steps > 0] for steps in cuts]

    def pieces(self, bounds: NDArray[np.int64], length: int) -> "Facts":
        """Return the facts of the pieces of each sequence that `bounds` cuts."""
        cuts = bounds.tolist()
        return Facts(
            None if self.observed is None else self.observed.pieces(bounds),
            None if self.resets is None else self.resets.pieces(bounds, length),
            None
            if self.gaps is None
            else [row[a:b] for row, cut in zip(self.gaps, cuts, strict=True) for a, b in pairwise(cut)],
            self.policy,
        )

    def add_to(self, batch: Batch, plan: WindowPlan, index: int) -> Batch:
        """Return `batch`, which is batch `index` of the plan, with the facts about its windows."""
        return replace(
            batch,
            observed=None if self.observed is None else self.observed.batch(plan, index),
            reset=None if self.resets is None else self.resets.batch(plan, index, prefix=True) > 0,
            keep=None if self.gaps is None else self._keep(plan, index),
        )

    def _keep(self, plan: WindowPlan, index: int) -> Array:
        """Return what survives before each window; all of it in empty rows."""
        places = zip(plan.sequence[index].tolist(), plan.start[index].tolist(), strict=True)
        missing = [0 if i < 0 or self.gaps is None else self.gaps[i][start] for i, start in places]
        return np.asarray(kept(np.array(missing), self.policy), dtype=np.float32)


def _read_resets(data: Any, form: Form, lengths: NDArray[np.int64]) -> Field:
    field = Field("resets", read_rows(in_form(data, form), form, "resets"))
    check_field(field, form.keys)
    for key, row, length in zip(form.keys, field.rows, lengths.tolist(), strict=True):
        _check_resets(key, row, length)
    return field


def _check_resets(key: Hashable, row: Array, length: int) -> None:
    if row.shape != (length,):
        raise DataError(
            f"`resets` must have one flag for each step, shape ({length},) in sequence {key!r}. "
            f"Received: shape {row.shape}."
        )
    wrong = np.flatnonzero((row != 0) & (row != 1))
    if len(wrong):
        raise DataError(
            f"`resets` must be flags, true before each step that begins anew. Received: {row[wrong[0]]} in sequence "
            f"{key!r}, step {wrong[0]}."
        )
