"""The rate of a large float32 matrix product in operations per second, printed: the better of XLA's and NumPy's.

Neither is the fastest on every processor. On some processors NumPy's library uses vectors of half the possible width.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

_SIDE = 2048


def main() -> None:
    """Print the rate."""
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
    """Run repeatedly for one second. Return the seconds of the fastest run."""
    times: list[float] = []
    while sum(times) < 1:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
