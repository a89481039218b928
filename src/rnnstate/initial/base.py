"""The base of all initial states: a Keras layer that computes the state before a sequence's first step."""

from collections.abc import Callable
from typing import Any

import keras

from rnnstate.state.spec import StateSpec
from rnnstate.state.state import State

_WHEN = ("start", "window")


class InitialState(keras.layers.Layer):
    """Base of all initial states.

    Args:
        at: When it acts: `"start"` at a sequence's start and wherever a reset says, `"window"` at every window.

    Example:

    >>> isinstance(initial.Learned(), initial.InitialState)
    True
    """

    needs_observed = False

    def __init__(self, at: str = "start", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if at not in _WHEN:
            raise ValueError(f"`at` must be one of {_WHEN}. Received: at={at!r}.")
        self.at = at

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        """Bind to a model and make the variables.

        Args:
            spec: The leaves of the model.
            own: Returns the layers' own initial state of a number of rows.
        """
        self._model = _Model(spec, own)
        self.built = True

    def observe(self, size: int) -> None:
        """Make the variables that depend on how many values are observed."""

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        """Return the initial state of a batch.

        Args:
            batch_size: Number of rows.
            observed: Known values `(batch, values)`, where the kind of initial state takes them.
            training: Whether noise is active.
        """
        return self._model.own(batch_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "at": self.at}


class _Model:
    """What an initial state knows of its model, out of sight of Keras' tracking."""

    def __init__(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        self.spec, self.own = spec, own
