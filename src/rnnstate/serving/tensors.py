"""Tensors of the Open Inference Protocol, as JSON or as bytes behind the JSON.

    {"name": "x", "datatype": "FP32", "shape": [5, 2], "data": [...]}                              JSON
    {"name": "x", "datatype": "FP32", "shape": [5, 2], "parameters": {"binary_data_size": 40}}     40 bytes follow

A tensor of one session has the shape `(features,)` for one step, `(time, features)`, or `(1, time, features)`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.serving.bodies import fields
from rnnstate.serving.described import datatype
from rnnstate.serving.refusals import RefusedError
from rnnstate.streaming.engine import ArraySpec

_FIELDS = {"name": str, "datatype": str, "shape": list, "data": list, "parameters": dict}
_DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "BF16": "<u2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def read_tensors(given: Any, binary: bytes) -> dict[str, NDArray[Any]]:
    """Return the input tensors of a request by name, with the shapes that it says.

    Args:
        given: The field `inputs`.
        binary: The bytes behind the JSON, in the order of the tensors.

    Raises:
        RefusedError: If a tensor is not as the protocol says, or bytes are missing or left.
    """
    found: dict[str, NDArray[Any]] = {}
    begin = 0
    if not isinstance(given, list):
        raise RefusedError(400, f"The field `inputs` must be a list of tensors. Received: {type(given).__name__}.")
    for tensor in given:
        name, shape, dtype = _head(tensor)
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            found[name] = _from_json(name, shape, tensor)
            continue
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        if not isinstance(size, int) or isinstance(size, bool) or size != needed or begin + size > len(binary):
            left = len(binary) - begin
            raise RefusedError(
                400,
                f"Tensor `{name}` must have {needed:,} bytes. Received: size {ascii(size)[:60]}, {left:,} bytes left.",
            )
        found[name] = _from_bytes(binary[begin : begin + size], tensor["datatype"], dtype).reshape(shape)
        begin += size
    if begin < len(binary) or len(found) < len(given):
        raise RefusedError(
            400,
            f"Each tensor must be there once, and no byte be left. Received: {len(given)} tensors with {len(found)} names, "
            f"{len(binary) - begin:,} bytes left.",
        )
    return found


def of_session(spec: ArraySpec, array: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Return a tensor without its axis for the batch, and whether it had one."""
    if array.ndim == len(spec.shape) + 1 + spec.per_step:
        if len(array) != 1:
            raise RefusedError(
                400,
                f"A request has one sequence, so tensor `{spec.name}` must have 1 row. Received: shape={array.shape}.",
            )
        return array[0], True
    return array, False


def write_tensors(
    specs: Sequence[ArraySpec], arrays: Sequence[NDArray[Any]], binary: Sequence[bool]
) -> tuple[list[dict[str, Any]], bytes]:
    """Return output tensors for an answer, and the bytes that follow it."""
    described, parts = [], []
    for spec, array, as_bytes in zip(specs, arrays, binary, strict=True):
        one: dict[str, Any] = {"name": spec.name, "datatype": datatype(str(array.dtype)), "shape": list(array.shape)}
        if as_bytes:
            parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            one["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            one["data"] = as_json(array.reshape(-1))
        described.append(one)
    return described, b"".join(parts)


def as_json(value: Any) -> Any:
    """Return outputs as JSON can hold them. A value that is not finite becomes `null`.

    Example:

    >>> as_json({"y": np.array([1.0, np.inf])})
    {'y': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: as_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        shown: Any = np.where(np.isfinite(value), value.astype(object), np.array(None))
        return shown.tolist()
    return value.tolist()


def _head(tensor: Any) -> tuple[str, list[int], str]:
    if not isinstance(tensor, dict):
        raise RefusedError(400, f"A tensor must be an object. Received: {type(tensor).__name__}.")
    fields(tensor, _FIELDS, ("name", "datatype", "shape"))
    name, shape, kind = tensor["name"], tensor["shape"], tensor["datatype"]
    if kind not in _DTYPES:
        raise RefusedError(
            400,
            f"Tensor {ascii(name)[:60]} must have a datatype of {', '.join(_DTYPES)}. Received: {ascii(kind)[:60]}.",
        )
    if not all(type(size) is int and 0 <= size < 2**40 for size in shape) or len(shape) > 16:
        raise RefusedError(
            400, f"Tensor {ascii(name)[:60]} must have a shape of whole numbers. Received: {ascii(shape)[:60]}."
        )
    return name, shape, _DTYPES[kind]


def _from_json(name: str, shape: list[int], tensor: dict[str, Any]) -> NDArray[Any]:
    try:
        array = np.asarray(tensor.get("data"))
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedError(400, f"Tensor {ascii(name)[:60]} must have numbers. Received: {error}.") from error
    if array.dtype.kind not in "fiub" or array.size != math.prod(shape):
        raise RefusedError(
            400,
            f"Tensor {ascii(name)[:60]} must have {math.prod(shape):,} numbers. Received: {array.size:,} values of "
            f"{array.dtype}.",
        )
    return array.reshape(shape)


def _from_bytes(part: bytes, kind: str, dtype: str) -> NDArray[Any]:
    array = np.frombuffer(part, dtype)
    return (array.astype("<u4") << 16).view("<f4") if kind == "BF16" else array
