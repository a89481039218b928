"""One batch of windows, carried: gathered from a bank, stepped, put back. What `fit` compiles.

A batch says what is to happen before its windows, as data: `first` (a sequence begins), `observed` (known values that
the initial state is computed from), `keep` (how much of the carried state survives a gap), `reset` (steps before which a
row starts anew), `burn_in` or `context` (steps before the window that refresh the state) and `last`.
"""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from rnnstate.initial.initial import InitialState
from rnnstate.model.bank import Bank
from rnnstate.network.masks import is_series, mask_output
from rnnstate.network.step import run, where_rows
from rnnstate.state.state import Array, State


def is_batch(inputs: Any) -> bool:
    """True for the inputs of a batch of windows, false for plain inputs of the network."""
    return isinstance(inputs, dict) and "slot" in inputs


def mask_of(inputs: Any) -> Array | None:
    """Return the mask `(batch, time)` of the steps that are trained on and scored."""
    if not is_batch(inputs) or "mask" not in inputs:
        return None
    return ops.cast(inputs["mask"][:, lead_of(inputs) :], "bool")


def masked_outputs(inputs: Any, outputs: Any) -> Any:
    """Return predictions with the mask of the steps that count; those of plain inputs as they are."""
    mask = mask_of(inputs)
    return outputs if mask is None else tree.map_structure(lambda tensor: mask_output(tensor, mask), outputs)


def lead_of(inputs: dict[str, Any]) -> int:
    """Return how many steps before the window are there to refresh its state."""
    return next((int(inputs[name].shape[1]) for name in ("burn_in", "context") if name in inputs), 0)


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

    def __call__(self, inputs: dict[str, Any]) -> Any:
        slots = ops.cast(inputs["slot"], "int32")
        first = ops.cast(inputs["first"], "bool")
        # An initial state that acts at every window takes each for a first one; rows that were given stay as given.
        first = first if self._start.at == "start" else ops.ones_like(first)
        initial = self._start.state(ops.shape(slots)[0], inputs.get("observed"), self._training)
        fresh = self._bank.starts_fresh(slots, first)
        if "keep" in inputs:  # what a gap leaves nothing of is fresh: with `back`, gradient flows into it later too
            fresh = ops.logical_or(fresh, ops.equal(inputs["keep"], 0))
        state = _faded(inputs, where_rows(fresh, initial, self._bank.take(slots)), initial)
        y, final = self._windows(inputs, state, initial)
        self._bank.put(slots, final, _still_fresh(inputs, fresh) if self._training else None)
        return y

    def _windows(self, inputs: dict[str, Any], state: State, initial: State) -> tuple[Any, State]:
        """Run the windows, after the steps that lead to them where they are needed."""
        lead = lead_of(inputs)
        run_steps = self._runner(inputs, initial)
        # Inference carries exact states, so nothing has to be refreshed, unless each window starts from an initial state:
        # that belongs to the step before all others of the batch.
        if not lead or not (self._training or self._start.at == "window"):
            return run_steps(slice(lead, None), state)
        length = int(inputs["mask"].shape[1]) - lead
        cut = min(lead, length)
        _, early = run_steps(slice(0, cut), state)
        begun = early if cut == lead else run_steps(slice(cut, lead), early)[1]
        y, final = run_steps(slice(lead, None), begun if "context" in inputs else begun.detach())
        # What leads to the next window begins `length` steps after what leads to this one: that is the state to keep,
        # unless nothing follows.
        kept = early if cut == length else run_steps(slice(cut, length), early.detach())[1]
        return y, where_rows(ops.cast(inputs["last"], "bool"), final, kept)

    def _runner(self, inputs: dict[str, Any], initial: State) -> Callable[[slice, State], tuple[Any, State]]:
        """Return a function that runs some steps of the batch from a state."""
        mask, reset = inputs.get("mask"), inputs.get("reset")

        def run_steps(steps: slice, state: State) -> tuple[Any, State]:
            def part(tensor: Array) -> Array:
                return tensor[:, steps] if is_series(tensor, int(inputs["mask"].shape[1])) else tensor

            x = inputs["x"] if steps == slice(0, None) else tree.map_structure(part, inputs["x"])
            valid, flags = (None if f is None else ops.cast(f[:, steps], "bool") for f in (mask, reset))
            return run(self._carrier, x, state, valid, self._training, flags, None if flags is None else initial)

        return run_steps


def _still_fresh(inputs: dict[str, Any], fresh: Array) -> Array | None:
    """Return where the state that is kept is the initial state still, into which gradient flows in the next window too."""
    if not (lead := lead_of(inputs)):
        return None
    mask = ops.cast(inputs["mask"], "bool")
    begun = ops.any(mask[:, : mask.shape[1] - lead], axis=1)
    return ops.logical_and(fresh, ops.logical_not(ops.logical_or(begun, ops.cast(inputs["last"], "bool"))))


def _faded(inputs: dict[str, Any], state: State, initial: State) -> State:
    """Return what a gap before the windows has left of their states; the rest of each is its initial state."""
    if "keep" not in inputs:
        return state

    def fade(leaf: Array, start: Array) -> Array:
        keep = ops.reshape(ops.cast(inputs["keep"], leaf.dtype), (-1, *[1] * (len(leaf.shape) - 1)))
        return start + keep * (leaf - start)

    return State.unchecked(state, [fade(leaf, initial[name]) for name, leaf in state.items()])
