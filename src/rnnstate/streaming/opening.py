"""The parts of a new streamer: the engine of its model, and its store.

A store that belonged to another model is refused, its sessions are kept, or they start again, with a report.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

from rnnstate.errors import SpecMismatchError, StoreWarning
from rnnstate.messages import counted
from rnnstate.streaming.engine import Engine
from rnnstate.streaming.stores.records import Card
from rnnstate.streaming.stores.store import Store

POLICIES = ("refuse", "restart", "migrate")


def engine_of(model: Any) -> Engine:
    """Return the engine of a model or of the path of an ONNX file.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(model, (str, os.PathLike)):
        from rnnstate.streaming.onnx_engine import OnnxEngine

        return OnnxEngine(model)
    if hasattr(model, "card"):  # an engine
        engine: Engine = model
        return engine
    if not hasattr(model, "state_spec"):
        raise TypeError(
            f"`Streamer` takes a `StatefulModel` or the path of an ONNX file. Received: {type(model).__name__}. "
            "Wrap a Keras model: `rs.StatefulModel(net)`."
        )
    from rnnstate.streaming.keras_engine import KerasEngine

    return KerasEngine(model)


def check_limits(max_batch: int, max_steps: int, max_delay: float) -> None:
    """Raise `ValueError` unless the limits of a streamer can be used."""
    if max_batch < 1 or max_batch & (max_batch - 1):
        raise ValueError(f"`max_batch` must be a power of two. Received: max_batch={max_batch}.")
    if max_steps < 1 or not max_delay >= 0:
        raise ValueError(
            f"`max_steps` must be at least 1 and `max_delay` at least 0. Received: {max_steps} and {max_delay}."
        )


def open_store(store: Store, card: Card, on_other_model: str) -> Callable[[bytes], bool]:
    """Let a store belong to a model.

    Args:
        store: The store.
        card: The model.
        on_other_model: What to do with sessions of another model: `"refuse"`, `"restart"` or `"migrate"`.

    Returns:
        A function that tells whether a record of a model, `b"fingerprint-weights"`, may go on with this one.

    Raises:
        SpecMismatchError: If the sessions are of another model, and the policy does not allow it.
        ValueError: If the policy is unknown.
    """
    if on_other_model not in POLICIES:
        raise ValueError(f"`on_other_model` must be one of {POLICIES}. Received: {on_other_model!r}.")
    old, own = store.read_card(), card.model.encode()
    if old is None:
        store.write_card(card)
    elif old.model != card.model:
        _take_over(store, old, card, on_other_model)
    elif old != card:  # the layers have other names in this process
        store.write_card(card)
    prefix = f"{card.fingerprint}-".encode()
    return (lambda model: model.startswith(prefix)) if on_other_model == "migrate" else (lambda model: model == own)


def _take_over(store: Store, old: Card, card: Card, policy: str) -> None:
    fits = old.fingerprint == card.fingerprint and old.last == card.last
    kind = "other weights" if fits else "another state"
    about = f"The store belongs to model {old.model}, with {kind}. This model is {card.model}."
    if policy == "refuse":
        hint = '"migrate" to keep the sessions or "restart" to drop them' if fits else '"restart" to drop its sessions'
        raise SpecMismatchError(f"{about} Nothing has changed. Use another store, or `on_other_model=` {hint}.")
    if policy == "migrate" and not fits:
        raise SpecMismatchError(
            f'{about} `on_other_model="migrate"` keeps the sessions of the same leaves alone. '
            'Nothing has changed. Use another store, or `"restart"`.'
        )
    number = store.clear() if policy == "restart" else len(store)
    done = f"{'dropped' if policy == 'restart' else 'kept'} {counted(number, 'record')}"
    store.write_card(card)
    warnings.warn(f"{about} `on_other_model={policy!r}` {done}.", StoreWarning, stacklevel=4)
