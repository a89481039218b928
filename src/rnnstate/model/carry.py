"""The carrying of one batch of windows, as the compiled step of `fit` runs it.

A `rnnstate.windows.batch.Batch` says, as data, what happens before its windows. The call of a network on such a batch has
five parts, with one row of the batch in each row of every array:

    bank        row 0 is spare, row s is the state of the sequence in slot s
      | take    rows bank[slot], detached: no gradient flows into the window before
    carried     (batch, *shape) for each leaf
      | first   rows that start from the initial state instead
      | keep    rows of which a gap left only a part
    state       (batch, *shape): where each window starts
      | run     lead steps, then the window (masked steps change nothing, `reset` returns rows to the initial state)
    final       (batch, *shape): where each window ends
      | put     bank[slot] = final; all empty rows write to the spare row 0
"""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from rnnstate.initial.base import InitialState
from rnnstate.model.bank import Bank, starts_fresh
from rnnstate.network.masks import is_series
from rnnstate.network.step import run, where_rows
from rnnstate.state.state import Array, State
from rnnstate.windows.batch import Batch


class Carried:
    """One call of a network on a batch of windows.

    Args:
        carrier: The network with ports.
        bank: Rows that the windows start from and end in.
        start: The initial state.
        training: Whether this is a training step.
    """

    def __init__(self, carrier: Any, bank: Bank, start: InitialState, training: bool) -> None:
        self._carrier, self._bank, self._start, self._training = carrier, bank, start, training

    def __call__(self, batch: Batch) -> Any:
        """Run the network on a batch, and write the state of each row to the bank.

        Returns:
            The outputs of the windows, `(batch, length, ...)` or `(batch, ...)`.
        """
        slots = ops.cast(batch.slot, "int32")
        first = ops.cast(batch.first, "bool")
        # An initial state that acts at every window takes each for a first one; rows that `write` gave stay as given.
        first = first if self._start.at == "start" else ops.ones_like(first)
        initial = self._start.state(ops.shape(slots)[0], batch.observed, self._training)
        taken, flags = self._bank.take(slots)
        fresh = starts_fresh(flags, first)
        if (
            batch.keep is not None
        ):  # a row of which a gap leaves nothing is fresh: with `back`, gradient flows into it later
            fresh = ops.logical_or(fresh, ops.equal(batch.keep, 0))
        state = _faded(batch.keep, where_rows(fresh, initial, taken), initial)
        y, final = self._windows(batch, state, initial)
        self._bank.put(slots, final, flags, _still_fresh(batch, fresh) if self._training else None)
        return y

    def _windows(self, batch: Batch, state: State, initial: State) -> tuple[Any, State]:
        """Run the windows, after the steps before them where these are needed.

        Returns:
            The outputs of the windows, and the state to keep for the next windows.
        """
        lead = batch.lead
        run_steps = self._runner(batch, initial)
        # Inference carries exact states, so nothing has to be refreshed, unless each window starts from an initial state:
        # this one belongs to the step before all others of the batch.
        if not lead or not (self._training or self._start.at == "window"):
            return run_steps(slice(lead, None), state)
        # The next batch begins `length` steps later, with its own steps before its window. So the state to keep is that
        # after step `length`, not that after the window:
        #
        #   step          0        length          lead       lead + length
        #   this batch    | before ................ | window ........ |
        #   next batch             | before ................ | window ........ |
        #                          ^ `kept`
        #
        # `early` is the state at the first step at which something ends: the steps before, or the part up to `kept`.
        length = batch.time - lead
        cut = min(lead, length)
        _, early = run_steps(slice(0, cut), state)
        begun = early if cut == lead else run_steps(slice(cut, lead), early)[1]
        y, final = run_steps(slice(lead, None), begun if batch.context is not None else begun.detach())
        kept = early if cut == length else run_steps(slice(cut, length), early.detach())[1]
        # After the last window of a sequence nothing follows, and its end is the state to keep.
        return y, where_rows(ops.cast(batch.last, "bool"), final, kept)

    def _runner(self, batch: Batch, initial: State) -> Callable[[slice, State], tuple[Any, State]]:
        """Return a function that runs some steps of the batch from a state."""

        def run_steps(steps: slice, state: State) -> tuple[Any, State]:
            def part(tensor: Array) -> Array:
                return tensor[:, steps] if is_series(tensor, batch.time) else tensor

            x = batch.x if steps == slice(0, None) else tree.map_structure(part, batch.x)
            flags = (None if f is None else ops.cast(f[:, steps], "bool") for f in (batch.mask, batch.reset))
            valid, reset = flags
            return run(self._carrier, x, state, valid, self._training, reset, None if reset is None else initial)

        return run_steps


def _still_fresh(batch: Batch, fresh: Array) -> Array | None:
    """Return, `(batch,)`, where the state to keep still is the initial state.

    Gradient flows into this initial state in the next window too, so the next window computes it again.
    """
    if not batch.lead:
        return None
    mask = ops.cast(batch.mask, "bool")
    # `kept` is the state after step `length`: it is the initial state if none of the steps up to there exists.
    begun = ops.any(mask[:, : mask.shape[1] - batch.lead], axis=1)
    return ops.logical_and(fresh, ops.logical_not(ops.logical_or(begun, ops.cast(batch.last, "bool"))))


def _faded(keep: Array | None, state: State, initial: State) -> State:
    """Return the part of each row that a gap leaves, filled up with the initial state: `keep` is `(batch,)`."""
    if keep is None:
        return state

    def fade(leaf: Array, start: Array) -> Array:
        # (batch,) -> (batch, 1, ..., 1), against a leaf (batch, *shape)
        share = ops.reshape(ops.cast(keep, leaf.dtype), (-1, *[1] * (len(leaf.shape) - 1)))
        return start + share * (leaf - start)

    return State.unchecked(state, [fade(leaf, initial[name]) for name, leaf in state.items()])
