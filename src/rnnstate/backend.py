"""Which backend Keras starts with when the user has not said so.

Keras' own default is TensorFlow, so `import keras` fails where only JAX is installed. The user's word comes first: the
environment variable `KERAS_BACKEND`, a Keras that is imported already, or another backend than the default in `keras.json`.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

PREFERENCE = ("jax", "torch", "tensorflow")


def choose_backend() -> str | None:
    """Set `KERAS_BACKEND` to the first installed backend, unless the user chose one.

    Returns:
        The backend chosen here, or `None` if the choice was made elsewhere or nothing is installed.
    """
    if os.environ.get("KERAS_BACKEND") or "keras" in sys.modules or _configured() not in (None, "tensorflow"):
        return None
    chosen = next((name for name in PREFERENCE if importlib.util.find_spec(name) is not None), None)
    if chosen is not None:
        os.environ["KERAS_BACKEND"] = chosen
    return chosen


def _configured() -> str | None:
    """Return the backend of `keras.json`. Keras writes "tensorflow" there by itself, so that name says nothing."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        config = json.loads((home / "keras.json").read_text())
    except (OSError, ValueError):
        return None
    return config.get("backend") if isinstance(config, dict) else None
