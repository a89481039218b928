"""One batch of windows, carried: gathered from a bank, stepped, put back. What `fit` compiles.

A batch says what is to happen before its windows, as data: `first` (a sequence begins), `observed` (known values that
the initial state is computed from), `keep` (how much of the carried state survives a gap), `reset` (steps before which a
row starts anew), `burn_in` or `context` (steps before the window that refresh the state) and `last`.
"""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from rnnstate.bank import Bank
from rnnstate.initial import InitialState
from rnnstate.masking import is_series
from rnnstate.state import Array, State
from rnnstate.stepping import run, where_rows


def is_batch(inputs: Any) -> bool:
    """True for the inputs of a batch of windows, false for plain inputs of the network."""
    return isinstance(inputs, dict) and "slot" in inputs


def mask_of(inputs: Any) -> Array | None:
    """Return the mask `(batch, time)` of the steps that are trained on and scored."""
    if not is_batch(inputs) or "mask" not in inputs:
        return None
    return ops.cast(inputs["mask"][:, lead_of(inputs) :], "bool")


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
        initial = self._start.state(ops.shape(slots)[0], inputs.get("observed"), self._training)
        fresh = self._bank.starts_fresh(slots, first)
        state = where_rows(fresh, initial, self._bank.take(slots))
        y, final = self._windows(inputs, state, initial)
        self._bank.put(slots, final)
        return y

    def _windows(self, inputs: dict[str, Any], state: State, initial: State) -> tuple[Any, State]:
        lead = lead_of(inputs)
        before, window = self._cut(inputs, lead)
        if lead and self._training:
            _, state = before(state, initial)
            state = state if "context" in inputs else state.detach()
        state = self._at_window(inputs, state, initial)
        if not (lead and self._training):
            plain: tuple[Any, State] = window(state, initial)
            return plain
        # The next window's steps before it begin inside this one: that is the state to keep, unless nothing follows.
        return self._kept_early(inputs, lead, state, initial)

    def _at_window(self, inputs: dict[str, Any], state: State, initial: State) -> State:
        if self._start.at == "window":
            return initial
        if "keep" not in inputs:
            return state
        faded = {}
        for name, leaf in state.items():
            keep = ops.reshape(ops.cast(inputs["keep"], leaf.dtype), (-1, *[1] * (len(leaf.shape) - 1)))
            faded[name] = initial[name] + keep * (leaf - initial[name])
        return State.unchecked(faded, faded.values())

    def _kept_early(self, inputs: dict[str, Any], lead: int, state: State, initial: State) -> tuple[Any, State]:
        total = int(inputs["mask"].shape[1])
        main, tail = self._cut(inputs, total - lead, begin=lead)
        first_part = main(state, initial) if total > 2 * lead else None
        y, final = tail(first_part[1] if first_part else state, initial)
        kept = first_part[1] if first_part else state
        if first_part:
            valid = ops.any(ops.cast(inputs["mask"][:, total - lead :], "bool"), axis=1)
            y = tree.map_structure(lambda one, other: _joined(one, other, valid), first_part[0], y)
        return y, where_rows(ops.cast(inputs["last"], "bool"), final, kept)

    def _cut(self, inputs: dict[str, Any], at: int, begin: int = 0) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return runs of the steps from `begin` to `at`, and of those from `at` on."""
        return self._run_of(inputs, slice(begin, at)), self._run_of(inputs, slice(at, None))

    def _run_of(self, inputs: dict[str, Any], steps: slice) -> Callable[[State, State], tuple[Any, State]]:
        mask, reset = inputs.get("mask"), inputs.get("reset")

        def part(tensor: Array) -> Array:
            return tensor[:, steps] if is_series(tensor, int(inputs["mask"].shape[1])) else tensor

        def of_window(state: State, initial: State) -> tuple[Any, State]:
            x = inputs["x"] if steps == slice(0, None) else tree.map_structure(part, inputs["x"])
            valid, flags = (None if f is None else ops.cast(f[:, steps], "bool") for f in (mask, reset))
            return run(self._carrier, x, state, valid, self._training, flags, None if flags is None else initial)

        return of_window


def _joined(one: Array, other: Array, valid: Array) -> Array:
    """Join the outputs of two parts of a window: along time, or the last that had a valid step."""
    if len(one.shape) > 2:
        return ops.concatenate([one, other], axis=1)
    return where_rows(valid, {"y": other}, {"y": one})["y"]
