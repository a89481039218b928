"""JAX: products over all steps of a window as products of two matrices, in an order that XLA does not transpose."""

from typing import Any

import jax
import jax.numpy as jnp

from rnnstate.kernels.loops.definition import Array


@jax.custom_vjp
def project(x: Array, kernel: Array) -> Array:
    """Return `x @ kernel`, for `(..., features)` and `(features, columns)`.

    The backward pass differs from JAX's in the order of the axes only. With JAX's order, XLA copies the gradient of all
    steps into another layout and multiplies by columns, which takes several times as long.
    """
    return _multiply(x, kernel, axis=0)


def _way_back(saved: tuple[Array, Array], d: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return rows_back(kernel, d), over_steps(x, d)


project.defvjp(lambda x, kernel: (project(x, kernel), (x, kernel)), _way_back)


def rows_back(kernel: Array, d: Array) -> Array:
    """Return the gradient of `x`, from the gradient of `project(x, kernel)`."""
    return _multiply(d, kernel, axis=1)


def over_steps(left: Array, right: Array) -> Array:
    """Return the gradient of a kernel: the sum over all rows and steps of the outer products of `left` and `right`."""
    return _dot(left, right, axes=(0, 0))


def _multiply(rows: Array, matrix: Array, axis: int) -> Array:
    """Multiply the rows of all steps by a matrix, along one of its axes."""
    return _dot(rows, matrix, axes=(1, axis)).reshape(*rows.shape[:-1], matrix.shape[1 - axis])


def _dot(left: Array, right: Array, axes: tuple[int, int]) -> Any:
    left, right = (array.reshape(-1, array.shape[-1]) for array in (left, right))
    dtype = jnp.result_type(left, right)
    return jax.lax.dot_general(left.astype(dtype), right.astype(dtype), (((axes[0],), (axes[1],)), ((), ())))
