"""Prints the rate of a large matrix product in float32, in operations per second: the best that XLA and NumPy do.

Neither knows every processor: on some, NumPy's library multiplies with vectors half as wide as there are.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

_SIDE = 2048


def main() -> None:
    """Print it."""
    left = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), "float32")
    fastest = min(_seconds(lambda: left @ left), _seconds(_product_of_xla(left)))
    sys.stdout.write(f"{2 * _SIDE**3 / fastest}\n")


def _product_of_xla(left: np.ndarray) -> Callable[[], object]:
    try:
        import jax
    except ImportError:
        return lambda: left @ left
    given = jax.device_put(left, jax.devices("cpu")[0])
    multiply = jax.jit(lambda matrix: matrix @ matrix)
    return lambda: multiply(given).block_until_ready()


def _seconds(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest run within a second."""
    times: list[float] = []
    while sum(times) < 1:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
