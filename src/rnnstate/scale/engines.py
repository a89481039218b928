"""Engines that are extras of this package."""

import importlib.util

_EXTRAS = {"pyspark": "spark", "ray": "ray"}


def require(engine: str) -> None:
    """Raise unless an engine is installed.

    Raises:
        ImportError: If it is missing. The message says how to install it.
    """
    if importlib.util.find_spec(engine) is None:
        extra = _EXTRAS[engine]
        raise ImportError(
            f'`rnnstate.scale.{extra}` needs {engine}. Install it with: pip install "rnnstate[{extra}]"',
            name=engine,
        )
