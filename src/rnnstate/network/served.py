"""The weights that a step uses while a thread trains them, and which thread may use a model meanwhile.

On JAX, Keras takes the arrays out of the variables while `fit`, `evaluate` or `predict` runs, and hands them to compiled
steps that overwrite them. So a step in another thread uses copies, which are taken when the call begins and when each
epoch begins. On PyTorch and TensorFlow the weights stay in the variables, and a step uses those of the moment.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, RLock, get_ident
from typing import Any

import keras

from rnnstate.errors import CarryError
from rnnstate.kernels import kernels


class Served:
    """The variables of a model, and their values for the thread that asks.

    Args:
        find: Returns all variables of the network and of the initial state.
        sync: Returns the values to the variables, in the thread that trains.
    """

    def __init__(self, find: Callable[[], list[Any]], sync: Callable[[], None]) -> None:
        self._find, self._sync = find, sync
        self.variables = find()
        # Held while Python code of the network runs: Keras' layers note losses and dropout masks in themselves.
        self.lock = RLock()
        self.copies: list[Any] | None = None
        self.changes = 0
        self._copied: list[Any] = []
        self._user: tuple[int, str] | None = None
        self._taking = Lock()

    def find(self) -> None:
        """Look for the variables again, after layers have changed."""
        self.variables = self._find()

    @contextmanager
    def used_by(self, method: str) -> Iterator[None]:
        """Give the model to one thread for the time of a call of `fit`, `evaluate` or `predict`.

        Raises:
            CarryError: If another thread has it.
        """
        with self._taking:
            self.check_thread(method)
            outer, self._user = self._user, self._user or (get_ident(), method)
        try:
            if outer is None:
                self.keep()
            yield
        finally:
            if outer is None:
                self.copies, self._copied, self._user = None, [], None
                self.changes += 1

    def check_thread(self, what: str) -> None:
        """Raise if a call of another thread uses the model.

        Raises:
            CarryError: If it does.
        """
        user = self._user
        if user is not None and user[0] != get_ident():
            raise CarryError(
                f"`{what}` must have the model for itself. Received: `{user[1]}` of the same model is running in another "
                f"thread. Wait for its end, or call `{what}` from a callback of `{user[1]}`. `step`, `trace` and `rollout` "
                "work meanwhile."
            )

    def keep(self) -> None:
        """Copy the present weights for the steps of other threads. Only JAX needs copies."""
        if keras.config.backend() != "jax":
            return
        values = [variable.value for variable in self.variables]
        if len(values) != len(self._copied) or any(a is not b for a, b in zip(values, self._copied, strict=True)):
            self.copies, self._copied = kernels().copies(values), values
            self.changes += 1

    def elsewhere(self) -> list[Any] | None:
        """Return the copies if another thread uses the model, else `None`."""
        user = self._user
        return None if user is None or user[0] == get_ident() else self.copies

    def values(self) -> list[Any]:
        """Return the values of the variables for a step of this thread."""
        return self.elsewhere() or [variable.value for variable in self.variables]

    def _scope(self) -> AbstractContextManager[Any]:
        copies = self.elsewhere()
        return nullcontext() if copies is None else keras.StatelessScope(list(zip(self.variables, copies, strict=True)))

    def run(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns that reads the variables, with the values that a step of this thread uses."""

        def within() -> Any:
            with self._scope():
                return call()

        return self.attempt(within)

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns. Try again if training has begun or ended while it ran."""
        while True:
            changes = self.changes
            try:
                return call()
            except Exception:
                if not self.moved(changes):
                    raise

    def moved(self, changes: int) -> bool:
        """Tell whether a call that failed may succeed now: the variables have been emptied, filled or overwritten.

        Args:
            changes: `self.changes` from before the call.

        Raises:
            CarryError: If the variables are empty for a reason that this model does not know.
        """
        if self.changes != changes:
            return True
        if not any(map(_is_empty, self.variables)):
            return False
        if self._user is not None and self._user[0] == get_ident():
            self._sync()
        if any(map(_is_empty, self.variables)):
            raise CarryError(
                "The weights must be in the variables of the network. Received: variables without values, because Keras "
                "empties them on JAX while it trains. Another model that shares these weights is in `fit`, `evaluate` or "
                "`predict` in another thread. Wait for its end, or step the model that is trained."
            )
        return True


def _is_empty(variable: Any) -> bool:
    try:
        return variable.value is None
    except (TypeError, AttributeError):  # Keras itself cannot read a variable that it has emptied
        return True
