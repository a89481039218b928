"""`--backend`: the backend is chosen before Keras starts."""

import importlib.util
import os
import sys

from rnnstate.errors import DataError

BACKENDS = ("jax", "torch", "tensorflow")


def use_backend(name: str | None) -> None:
    """Make Keras start with a backend. `None` leaves the choice to `KERAS_BACKEND` and to what is installed.

    Raises:
        DataError: If the backend is not installed, or Keras runs on another one already.
    """
    if name is None:
        return
    if importlib.util.find_spec(name) is None:
        package = "rnnstate" if name == "jax" else f"rnnstate[{name}]"
        raise DataError(
            f"`--backend` must be an installed backend. Received: {name}, which is not installed. "
            f'Run `pip install "{package}"`.'
        )
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != name:
        running = sys.modules["keras"].backend.backend()
        raise DataError(
            f"`--backend` must be chosen before Keras starts. Received: {name}, while Keras runs on {running}."
        )
    os.environ["KERAS_BACKEND"] = name
