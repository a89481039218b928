"""JAX as one sets it to serve a small model on the CPU."""

import jax


def serve_only() -> None:
    """Run compiled steps in the thread that calls them; to be said before the first array is made.

    By default JAX hands all but the smallest programs to another thread, and waking it takes longer than a small step.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
