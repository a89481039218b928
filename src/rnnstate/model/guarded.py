"""What guards a model that several threads use: one thread trains or predicts, the others may step."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import keras

from rnnstate.model.parts import Parts
from rnnstate.network.served import Served

P = ParamSpec("P")
R = TypeVar("R")


def alone(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of a model run in one thread at a time."""

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        served: Served = args[0]._parts.stepper.served  # type: ignore[attr-defined]  # the model itself
        with served.used_by(method.__name__):
            return method(*args, **kwargs)

    return run


class Guarded(keras.Model):
    """The methods of `StatefulModel` that keep threads apart."""

    _parts: Parts

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run Keras' training step while no other thread runs Python code of the network."""
        with self._parts.stepper.served.lock, self._parts.within_step():
            return super().train_step(*args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run Keras' evaluation step while no other thread runs Python code of the network."""
        with self._parts.stepper.served.lock, self._parts.within_step():
            return super().test_step(*args, **kwargs)

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run Keras' prediction step while no other thread runs Python code of the network."""
        with self._parts.stepper.served.lock:
            return super().predict_step(*args, **kwargs)

    def keep_served(self) -> None:
        """Keep the weights of the moment for the steps of other threads, where training takes them away."""
        self._parts.stepper.served.keep()

    def keep_ahead(self) -> None:
        """Keep the weights that the running step will leave. To copy them later would delay the next epoch.

        If something changes them before the next epoch begins, `keep_served` copies them again.
        """
        if hasattr(self, "jax_state_sync"):
            self.jax_state_sync()
            self.keep_served()

    def alone_in_network(self) -> AbstractContextManager[Any]:
        """Return a context in which no other thread runs Python code of the network."""
        lock: AbstractContextManager[Any] = self._parts.stepper.served.lock
        return lock

    def network_version(self) -> int:
        """Return a number that is another one after each change of a layer."""
        return self._parts.stepper.version()

    def forget_compiled(self) -> None:
        """Compile again at the next call of `step`, `trace`, `rollout`, `fit`, `evaluate` and `predict`.

        The model notices by itself when an attribute of a layer is set, such as a variable, an activation or a dtype policy,
        and when a list of a layer gets other entries. Call this method after any other change, for example inside an object
        that is not a layer, or of a global name that a layer or a `feedback` reads.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
        >>> model = rs.StatefulModel(net)
        >>> model.forget_compiled()
        """
        self._parts.stepper.forget()
