"""What several processes that train one model tell each other around the steps.

Each process has the same program, model and windows, and trains on its own rows of each batch (`windows/share.py`):

| when | what |
|---|---|
| before the first step | rank 0 gives its weights to all; all compare their windows |
| in each step | gradients, and the number of steps that the loss counts |
| at the end of an epoch, and before a checkpoint | the rows of the bank, each from the rank that trained the sequence |
| after `evaluate` and at the end of an epoch | the sums of the metrics |
| after `predict` | the outputs |
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from safetensors.numpy import load, save

from rnnstate.errors import DataError, RankError, UnsupportedModelError
from rnnstate.kernels.ranks import rank_kernels
from rnnstate.kernels.ranks.group import group
from rnnstate.network.clone import walk
from rnnstate.state.state import to_numpy
from rnnstate.training.resume.packing import pack, unpack

_JSON = "json"


def gather(value: Any) -> list[Any]:
    """Return the values of all ranks, by rank.

    Args:
        value: Plain values, NumPy arrays, and lists, tuples and mappings of them.
    """
    if group().ranks == 1:
        return [value]
    text, arrays = pack(value)
    data = save({**arrays, _JSON: np.frombuffer(text.encode(), np.uint8)})
    return [_read(data) for data in rank_kernels().all_gather(data)]


def _read(data: bytes) -> Any:
    arrays = load(data)
    return unpack(arrays.pop(_JSON).tobytes().decode(), arrays)


def give_all(variables: Sequence[Any]) -> None:
    """Give the values of rank 0 to the variables of all ranks."""
    own = [to_numpy(variable.value) for variable in variables] if group().rank == 0 else []
    for variable, value in zip(variables, gather(own)[0], strict=True):
        variable.assign(ops.convert_to_tensor(value, dtype=variable.dtype))


def check_same(windows: Any, arguments: Any) -> None:
    """Raise unless all ranks were given the same windows and arguments.

    Raises:
        DataError: If they differ, on all ranks.
    """
    digest = hashlib.sha256(repr((windows.keys, windows.length, windows.order, arguments)).encode())
    digest.update(np.asarray(windows.lengths).tobytes())
    seen = gather([digest.hexdigest(), repr(windows), repr(arguments)])
    others = [rank for rank, one in enumerate(seen) if one[0] != seen[0][0]]
    if others:
        raise DataError(
            "All processes must be given the same windows, of which each takes its rows, and the same arguments. Received: "
            f"{seen[0][1]}, {seen[0][2]} on rank 0 and {seen[others[0]][1]}, {seen[others[0]][2]} on rank {others[0]}. "
            "Give each process all sequences; arrays may be memory-mapped."
        )


def check_supported(model: Any, training: bool) -> None:
    """Raise a `UnsupportedModelError` for a model whose result would depend on the number of processes."""
    if keras.config.backend() == "jax" and (model.run_eagerly or not model.jit_compile):
        _refuse("steps that are not compiled", "Compile with `jit_compile=True` and `run_eagerly=False`")
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", "mean")
        if reduction not in ("sum_over_batch_size", "mean"):
            _refuse(f"a loss with reduction={reduction!r}", "Use 'sum_over_batch_size'")
    if training and isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        _refuse("`LossScaleOptimizer`, whose scale each process would choose", "Use 'mixed_bfloat16' or 'float32'")
    for name, layer in walk(model.net) if training else ():
        moving = [v.name for v in layer.non_trainable_variables if keras.backend.is_float_dtype(v.dtype)]
        if layer.trainable and moving:
            _refuse(
                f"layer `{name}` with `{moving[0]}`, which each process would compute from its own rows", "Freeze it"
            )


def _refuse(received: str, advice: str) -> None:
    raise UnsupportedModelError(
        f"With several processes, the result must not depend on their number. Received: {received}. {advice}."
    )


@contextmanager
def summed(optimizer: Any) -> Iterator[None]:
    """Let an optimizer apply the mean of the gradients of all ranks."""
    apply = optimizer.apply

    def apply_mean(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
        return apply(_mean(grads), trainable_variables)

    optimizer.apply = apply_mean
    try:
        yield
    finally:
        del optimizer.apply


def _mean(grads: Sequence[Any]) -> list[Any]:
    known = [grad for grad in grads if grad is not None]
    sums = iter(rank_kernels().all_sum(known) if known else [])
    return [None if grad is None else next(sums) / group().ranks for grad in grads]


@contextmanager
def explained() -> Iterator[None]:
    """Say in plain words that another process has ended, where the backend reports a broken connection."""
    try:
        yield
    except rank_kernels().GONE as error:
        if (
            group().ranks == 1
            or isinstance(error, RankError)
            or not any(word in str(error).lower() for word in _BROKEN)
        ):
            raise
        raise RankError(
            f"All {group().ranks} processes must run to the end. Received: rank {group().rank} lost the connection to "
            "another process, which has ended or hangs; its own output says why. Start all processes again. With "
            "`checkpoint=` they continue from the last checkpoint, also with another number of processes."
        ) from error


_BROKEN = ("gloo", "connection", "nccl", "peer", "heartbeat", "barrier", "unavailable", "deadline")


def merged_metrics(model: Any, results: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of metrics over the rows of all ranks. The variables of the metrics stay as they are.

    Args:
        model: The model.
        results: Computes the results from the variables.
    """
    variables = model.metrics_variables
    own = [to_numpy(variable.value) for variable in variables]
    _assign(variables, metric_sums(own))
    merged = results()
    _assign(variables, own)
    return merged


def metric_sums(values: list[np.ndarray]) -> list[np.ndarray]:
    """Return the sums of the variables of metrics over all ranks."""
    if group().ranks == 1:
        return values
    return [np.sum(parts, axis=0).astype(parts[0].dtype) for parts in zip(*gather(values), strict=True)]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(ops.convert_to_tensor(value, dtype=variable.dtype))
