"""The rows of a bank, taken and put by native code. `csrc/bank.c` gives the order of the arguments and results."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.library import library

_TAKE, _PUT = range(2)
jax.ffi.register_ffi_target(
    "rnnstate_bank", jax.ffi.pycapsule(ctypes.cast(library().rnnstate_xla_bank, ctypes.c_void_p)), platform="cpu"
)


def take(banks: Sequence[Array], slots: Array) -> list[Array]:
    """Return the rows `slots`, int32 `(batch,)`, of banks `(capacity, *shape)`."""
    rows = [jax.ShapeDtypeStruct((slots.shape[0], *bank.shape[1:]), bank.dtype) for bank in banks]
    return list(_call(rows, {})(_task(_TAKE, banks), slots, *banks))


def put(banks: Sequence[Array], slots: Array, rows: Sequence[Array]) -> list[Array]:
    """Return banks with other rows at `slots`. If nothing else needs the given banks, they are changed in place."""
    after = [jax.ShapeDtypeStruct(bank.shape, bank.dtype) for bank in banks]
    in_place = {2 + len(banks) + leaf: leaf for leaf in range(len(banks))}
    return list(_call(after, in_place)(_task(_PUT, banks), slots, *rows, *banks))


def _task(work: int, banks: Sequence[Array]) -> Array:
    return np.array([work, *(math.prod(bank.shape[1:]) * bank.dtype.itemsize for bank in banks)], np.int32)


def _call(results: list[Any], in_place: dict[int, int]) -> Any:
    return jax.ffi.ffi_call("rnnstate_bank", results, vmap_method="sequential", input_output_aliases=in_place)
