"""A model in one of several processes: its part of the loss, and the rows and outputs that the processes exchange."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.kernels.ranks import rank_kernels
from rnnstate.kernels.ranks.group import group
from rnnstate.model.bank import CARRIED, FRESH, GIVEN, Bank
from rnnstate.model.scored import Scored
from rnnstate.network.masks import attached_mask
from rnnstate.state.state import State
from rnnstate.training.building import build_all
from rnnstate.training.loader import Source
from rnnstate.training.ranks import check_same, explained, gather, give_all, summed
from rnnstate.windows.share import own_sequences


def in_part(parts: Scored) -> Scored:
    """Return the targets and weights with which the mean of the losses of all ranks is the loss of the whole batch.

    Keras divides the loss of an output by the number `n` of its valid steps. Rank `r` of `R` weighs its loss with
    `R n_r / sum(n)`, so the mean over ranks is `sum(n_r loss_r) / sum(n)`.
    """
    outputs = tree.flatten(parts.y_pred)
    masks = [attached_mask(output) for output in outputs]
    counts = [ops.sum(ops.cast(mask, "float32")) for mask in masks]
    totals = rank_kernels().all_sum(counts)
    shares = [group().ranks * ops.divide_no_nan(*pair) for pair in zip(counts, totals, strict=True)]
    given = parts.sample_weight
    listed = tree.flatten(given) if tree.is_nested(given) else [given] * len(outputs)
    weights = [
        share * (ops.ones_like(mask, dtype="float32") if own is None else ops.cast(own, "float32"))
        for share, mask, own in zip(shares, masks, listed, strict=True)
    ]
    return Scored(parts.y, parts.y_pred, tree.pack_sequence_as(parts.y_pred, weights))


@contextmanager
def joined(model: Any, source: Source, arguments: dict[str, Any]) -> Iterator[None]:
    """Train together with the other processes, if there are any: from equal weights, on the mean of all gradients.

    Args:
        model: The compiled model.
        source: The share of this rank.
        arguments: The arguments of `fit`. Only rank 0 shows its progress.
    """
    if group().ranks == 1:
        yield
        return
    with explained():
        whole = source.windows.whole  # type: ignore[attr-defined]
        check_same(whole, {name: arguments.get(name) for name in ("epochs", "initial_epoch", "steps_per_epoch")})
        build_all(model, source.first())
        own = keras.Model.variables.fget(model)
        give_all([*own, *model.optimizer.variables])
        if group().rank:
            arguments["verbose"] = 0
        with summed(model.optimizer):
            yield


def exchange_states(model: Any, windows: Any) -> None:
    """Give the training states of this rank's sequences to all ranks, and take theirs; nothing for one process."""
    if group().ranks > 1:
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()  # within an epoch, Keras keeps the values elsewhere
        exchange_rows(model.states.bank, model.states.reserve(windows.keys), windows)


def exchange_rows(bank: Bank, slots: np.ndarray, windows: Any) -> None:
    """Give the rows of the sequences that this rank has trained to all ranks, and take theirs.

    A rank never takes a row of its own sequences from another rank.

    Args:
        bank: The bank.
        slots: The slot of each sequence, in the order of the keys.
        windows: The share of this rank.
    """
    own = own_sequences(windows)
    leaves = list(bank.leaves)
    rows, flags = bank.read(slots[own]), bank.read_flags(slots[own])
    sent = {"sequences": own, "flags": flags, "rows": [rows[leaf] for leaf in leaves]}
    for rank, one in enumerate(gather(sent)):
        for flag in (GIVEN, CARRIED, FRESH) if rank != group().rank else ():
            if (chosen := np.flatnonzero(one["flags"] == flag)).size:
                state = State({leaf: rows[chosen] for leaf, rows in zip(leaves, one["rows"], strict=True)})
                bank.write(slots[one["sequences"][chosen]], state, flag)


def exchange_outputs(outputs: dict[Any, Any], windows: Any) -> dict[Any, Any]:
    """Return the outputs of all sequences on all ranks.

    Args:
        outputs: The outputs by key, of which those of this rank's sequences are filled in.
        windows: The share of this rank.
    """
    own = own_sequences(windows)
    structure = next(iter(outputs.values()))
    sent = [tree.flatten(outputs[windows.keys[index]]) for index in own.tolist()]
    result: dict[Any, Any] = dict.fromkeys(windows.keys)
    for one in gather({"sequences": own, "outputs": sent}):
        for index, parts in zip(one["sequences"].tolist(), one["outputs"], strict=True):
            result[windows.keys[index]] = tree.pack_sequence_as(structure, list(parts))
    return result
