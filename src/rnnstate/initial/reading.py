"""The argument `initial_state` of `StatefulModel`."""

from typing import Any

from rnnstate.initial.base import InitialState
from rnnstate.initial.zeros import Zeros


def read_initial(initial_state: Any) -> InitialState:
    """Return the argument `initial_state` of `StatefulModel` as a layer.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(initial_state, InitialState):
        return initial_state
    if isinstance(initial_state, str) and initial_state == "zeros":
        return Zeros()
    raise ValueError(
        '`initial_state` must be "zeros" or a layer of `rnnstate.initial`, such as `rnnstate.initial.Learned()`. '
        f"Received: initial_state={initial_state!r}."
    )
