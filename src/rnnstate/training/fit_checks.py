"""The checks of the arguments of `fit`, `evaluate` and `predict`, before anything runs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import tree

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.initial.base import InitialState
from rnnstate.kernels import kernels
from rnnstate.kernels.ranks.group import group
from rnnstate.network.clone import inputs_of
from rnnstate.network.inputs import Inputs
from rnnstate.training.loader import Source
from rnnstate.training.ranks import check_supported
from rnnstate.training.roles import Carrying
from rnnstate.training.stride_checks import check_flags, check_groups
from rnnstate.training.target_checks import check_targets
from rnnstate.windows.batch import Batch, WindowDataset
from rnnstate.windows.lead_in import run_lengths
from rnnstate.windows.own_dataset import as_windows
from rnnstate.windows.share import share


def check_windows(
    model: Carrying, windows: Any, *, argument: str, targets: bool, training: bool = False, epoch: int | None = None
) -> Source:
    """Return windows that the model can be run on, or raise.

    Args:
        model: The `StatefulModel`.
        windows: The argument of the user.
        argument: The name of the argument, for the message.
        targets: Whether targets are needed.
        training: Whether the model trains on them.
        epoch: The first epoch of the run. By default the windows stay at their present epoch.

    Returns:
        The `Windows`, or the checked dataset of the user, with their first batch.

    Raises:
        DataError: If they are not windows, are out of order, have no targets or do not fit the inputs of the network, or
            if steps come before the windows of a model with `carry_backward`, or windows do not fit its strides over time.
        UnsupportedModelError: Inside a distribution strategy with several replicas, which would keep separate states, or
            under a `keras.distribution` that gives processes different data, or if several processes cannot share the
            model or the windows.
    """
    windows = as_windows(windows, argument)
    if group().ranks > 1:
        check_supported(model, training)
        _check_ends(windows, targets and not training)
        windows = share(windows, group().rank, group().ranks)
    check_groups(model.strides, windows)
    source = Source(windows, partial(check_flags, model.strides) if model.strides.total > 1 else None)
    if kernels().has_replicas():
        raise UnsupportedModelError(
            "Carried state needs one copy of its bank. Received: a distribution strategy with several replicas, each of "
            "which would keep its own. Train without `MirroredStrategy`, or on JAX with `keras.distribution`."
        )
    _check_processes(keras.distribution.distribution())
    # Inference carries exact states and leaves these steps out, unless each window starts from an initial state.
    lead = windows.prefix if training or model.start.at == "window" else 0
    _check_time(model.net, windows, lead)
    if model.carry_backward:
        _check_backward(argument, lead)
    if epoch is not None:
        windows.epoch = epoch
    Inputs(model.net).check(Batch.from_keras(source.first()[0]).x)
    if targets:
        check_targets(model, source, argument)
    return source


def _check_ends(windows: WindowDataset, scored: bool) -> None:
    kinds = windows.targets.values() if isinstance(windows.targets, Mapping) else [windows.targets]
    if scored and "sequence" in kinds:
        raise UnsupportedModelError(
            "Several processes evaluate targets per step or per window. Received: targets='sequence', whose weights depend "
            "on the rows of all processes. Call `predict`, and compute the loss from its result; or evaluate in one process."
        )


def _check_processes(distribution: Any) -> None:
    if distribution is None or distribution.num_processes == 1:
        return
    # All processes of `ModelParallel` with one replica are given the same batches.
    parts = min(distribution.num_processes, distribution.num_model_replicas)
    if parts > 1:
        raise UnsupportedModelError(
            "All windows of a sequence must go through one process. Received: "
            f"`keras.distribution.{type(distribution).__name__}` with {parts} processes that train on different data. With "
            "`auto_shard_dataset=True`, Keras would deal the batches to the processes in turn, so the second window of a "
            "sequence would start in a process that never saw the first. With False, sequences of different processes would "
            "share one row of the bank. Call `rnnstate.scale.initialize()` instead, which shares batches by sequence, or "
            "start one process, where `DataParallel` uses all devices."
        )


def _check_time(net: Any, windows: WindowDataset, lead: int) -> None:
    received = f"length={windows.length}" + (
        f" with `vary`, up to {windows.max_length} steps" if windows.varies else ""
    )
    for tensor in tree.flatten(inputs_of(net)):
        steps = tensor.shape[1] if len(tensor.shape) > 2 else None
        if steps not in (None, windows.max_length):
            raise DataError(
                f"Windows must be {steps} steps long for input `{tensor.name}` of this network. Received: {received}. "
                f"Use `length={steps}`, or build the network with `keras.Input((None, features))`."
            )
        if steps is not None and (parts := run_lengths(steps, lead)) != {steps}:
            raise DataError(
                f"Input `{tensor.name}` of this network takes {steps} steps, so {steps} or {2 * steps} can come before a "
                f"window. Received: `burn_in` or `back` with {lead}, which are run in parts of "
                f"{', '.join(map(str, sorted(parts - {steps})))}. Build the network with `keras.Input((None, features))`."
            )


def _check_backward(argument: str, lead: int) -> None:
    if lead:
        raise DataError(
            "With `carry_backward`, a window's backward pass starts from where that over the previous window ended, so the "
            f"steps before a window cannot be run again. Received: `{argument}` with `burn_in` or `back`, which put "
            f"{lead} steps before each window. Leave out one of them."
        )


def prepare_start(start: InitialState, source: Source) -> None:
    """Create the variables of an initial state that depend on the observed values, before anything is compiled.

    Args:
        start: The initial state of the model.
        source: The windows that the model is to be run on.

    Raises:
        DataError: If the windows lack observed values that the initial state needs, or have values that it does not take.
    """
    observed = Batch.from_keras(source.first()[0]).observed
    if start.needs_observed and observed is None:
        raise DataError(
            f"`initial_state={type(start).__name__}(...)` needs known values of each sequence. "
            "Received: windows without `observed`. Use `Windows(..., observed=...)`."
        )
    if observed is not None and not start.needs_observed:
        raise DataError(
            f"`initial_state={type(start).__name__}()` takes no observed values. Received: windows with "
            "`observed`. Use `StatefulModel(net, initial_state=rnnstate.initial.Observed())`, or leave them out."
        )
    if observed is not None:
        start.observe(observed.shape[1])


def last_windows(results: dict[Any, Any], flags: list[bool]) -> dict[Any, Any]:
    """Return the outputs of each key; where a flag is true, those of its last window alone.

    Args:
        results: Outputs by key.
        flags: One flag for each output, in the order of `keras.tree.flatten`.
    """
    if not any(flags):
        return results
    ended = {}
    for key, outputs in results.items():
        parts = zip(tree.flatten(outputs), flags, strict=True)
        ended[key] = tree.pack_sequence_as(outputs, [part[-1] if flag else part for part, flag in parts])
    return ended


def unstacked(outputs: Any, rows: list[int]) -> list[Any]:
    """Cut the concatenated outputs of Keras, `(sum of rows, ...)`, into batches of so many rows again."""
    parts = [np.split(output, np.cumsum(rows)[:-1]) for output in tree.flatten(outputs)]
    return [tree.pack_sequence_as(outputs, list(batch)) for batch in zip(*parts, strict=True)]
