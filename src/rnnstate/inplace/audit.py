"""`audit`: a report of what a model does with its state on this backend."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np

from rnnstate.inplace.discover import (
    ExplicitState,
    StatefulLayer,
    is_ignored,
    keeps_state,
    recurrent_layers,
    stateful_layers,
)
from rnnstate.inplace.repair import CarryingLayer
from rnnstate.network.clone import is_container, walk
from rnnstate.network.time_mixing import Mixing, is_carried_without_strides, mixing_of, without_steps
from rnnstate.network.time_mixing.walk import is_carried
from rnnstate.ports.fast_path import slow_because
from rnnstate.ports.recurrent import runs_backward
from rnnstate.state.spec import is_at

LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One fact about the state of a model that its user should know.

    Args:
        code: The kind of finding, such as `not-carried`.
        level: `"error"` if results are wrong or training fails, `"warning"` for a trap, `"note"` for an explanation.
        layer: The path of the layer.
        message: What happens.
        hint: What to do about it.

    Example:

    >>> print(Finding("fresh", "note", "lstm", "Nothing is carried.", "Wrap the network."))
    note [fresh] `lstm`: Nothing is carried. Wrap the network.
    """

    code: str
    level: str
    layer: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return " ".join(
            part for part in (f"{self.level} [{self.code}] `{self.layer}`:", self.message, self.hint) if part
        )


def audit(model: Any) -> list[Finding]:
    """Report what a model does with its recurrent state on the active backend.

    Args:
        model: Any Keras model. It may be a `StatefulModel`, have stock stateful layers, be repaired, or have no state.

    Returns:
        The findings, errors first. Their codes are `not-carried`, `rebound`, `training-crashes`, `backward-carried`,
        `backward-fresh`, `reference-kernel`, `frozen-batch`, `not-saved`, `shared-with-evaluate`,
        `time-distributed`, `decoder-carried`, `time-mixing`, `fresh`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(3, name="lstm")])
    >>> [finding.code for finding in audit(net)]
    ['fresh']
    """
    mixing = _mixing(model)
    findings = [*_time_distributed(model), *map(_time_mixing, mixing)]
    if isinstance(model, ExplicitState):
        findings += _of_explicit_model(model)
    else:
        layers = list(recurrent_layers(model))
        findings += [_fresh(path, mixing) for path, layer in layers if not keeps_state(layer)]
        if any(keeps_state(layer) for _, layer in layers):
            findings += _stateful_decoders(model)
            for layer in stateful_layers(model):
                findings += _of_stateful_layer(model, layer)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _of_explicit_model(model: ExplicitState) -> Iterator[Finding]:
    decoders = without_steps(model.net)
    others = [path for path, _ in recurrent_layers(model.net) if path not in decoders]
    for path, layer in recurrent_layers(model.net):
        if not _carries(model, path):
            yield _fresh_by_choice(path)
        elif path in decoders and (model.carry_backward or not runs_backward(layer)):
            hint = f"Name the layers that carry: `rnnstate.StatefulModel(net, carry={others})`."
            yield _decoder_carried(path, hint if others else "")
        if _carries(model, path) and (runs_backward(layer) or isinstance(layer, keras.layers.Bidirectional)):
            yield _backward_carried(path) if model.carry_backward else _backward_fresh(path)
        reason = _reference_because(model, layer)
        if reason is not None:
            message = f"It runs in Keras' own loop, which is slower than a fast one: {reason}."
            yield Finding("reference-kernel", "note", path, message)


def _carries(model: ExplicitState, path: str) -> bool:
    return model.carry is None or any(is_at(path, name) for name in model.carry)


def _reference_because(model: ExplicitState, layer: Any) -> str | None:
    """Return the reason why a layer runs in Keras' own loop; `None` if it runs in a fast one."""
    if model.kernels == "reference":
        return 'the model was made with `kernels="reference"`'
    if isinstance(layer, keras.layers.Bidirectional):
        return slow_because(layer.forward_layer)
    return slow_because(layer)


def _stateful_decoders(model: Any) -> Iterator[Finding]:
    """Report stateful layers that run over steps made from one value of the window."""
    decoders = without_steps(model) if is_container(model) and model.built else []
    for path, layer in recurrent_layers(model):
        if path in decoders and keeps_state(layer):
            yield _decoder_carried(path, "Set `stateful=False` for this layer.")


def _of_stateful_layer(model: Any, found: StatefulLayer) -> Iterator[Finding]:
    path, layer = found.path, found.layer
    for message in found.rebound:
        yield Finding("rebound", "error", path, message)
    repaired = isinstance(layer, CarryingLayer)
    if not repaired:
        yield from _of_stock_layer(model, found)
    elif isinstance(layer.layer, keras.layers.Bidirectional):
        yield _backward_fresh(path)
    batch_size = found.initial[0].shape[0]
    message = (
        f"The batch size is frozen at {batch_size}: a batch of another size fails, or is broadcast without an error."
    )
    yield Finding("frozen-batch", "warning", path, message, "`rnnstate.StatefulModel` takes any batch size.")
    message = "`evaluate`, `predict` and validation move the state that `fit` goes on from."
    yield Finding("shared-with-evaluate", "warning", path, message, "`rnnstate.StatefulModel` keeps them apart.")


def _of_stock_layer(model: Any, found: StatefulLayer) -> Iterator[Finding]:
    path, layer = found.path, found.layer
    if any(is_ignored(model, variable) for variable in found.variables.values()):
        message = (
            "Nothing is carried in `fit`, `evaluate` and `predict` on JAX: the state is compiled in as a constant."
        )
        yield Finding("not-carried", "error", path, message, "Use `rnnstate.repair(model)`.")
    if keras.config.backend() == "torch" and _takes_fast_path(layer) and stateful_training_crashes():
        message = "Training fails on PyTorch: the layer overwrites its state while gradients need it."
        yield Finding("training-crashes", "error", path, message, "Use `rnnstate.repair(model)`.")
    if isinstance(layer, keras.layers.Bidirectional) or runs_backward(layer):
        message = (
            "The backward direction is carried from the first step of a window to the last step of the next window."
        )
        yield Finding("backward-carried", "warning", path, message, "`rnnstate.repair(model)` starts it fresh.")
    message = "The state is not saved: a loaded model starts from zeros."
    yield Finding("not-saved", "warning", path, message, "`rnnstate.repair(model)` and `StatefulModel` save it.")


def _takes_fast_path(layer: Any) -> bool:
    inner = getattr(layer, "forward_layer", layer)
    fast = isinstance(inner, (keras.layers.LSTM, keras.layers.GRU))
    return fast and getattr(inner, "use_cudnn", "auto") is not False


@cache
def stateful_training_crashes() -> bool:
    """Whether training a stateful LSTM fails on this backend. Keras releases differ, so train a tiny one and see."""
    tiny = keras.Sequential([keras.Input(batch_shape=(1, 2, 1)), keras.layers.LSTM(1, stateful=True)])
    tiny.compile("sgd", "mse")
    try:
        for _ in range(2):
            tiny.train_on_batch(np.ones((1, 2, 1)), np.ones((1, 1)))
    except RuntimeError:
        return True
    return False


def _backward_fresh(path: str) -> Finding:
    message = "The backward direction starts fresh in each window; only a forward direction can be carried."
    return Finding("backward-fresh", "note", path, message)


def _backward_carried(path: str) -> Finding:
    message = (
        "The backward direction is carried, as `carry_backward` asks, from the first step of a window to the last step of "
        "the next window. Outputs differ from one pass over the whole sequence and depend on where windows are cut."
    )
    return Finding("backward-carried", "note", path, message, "Leave out `carry_backward` to start it fresh.")


def _fresh(path: str, mixing: list[Mixing]) -> Finding:
    message = "Each call starts from the initial state; nothing is carried."
    hint = "To carry, wrap the network: `rnnstate.StatefulModel(net)`."
    if mixing:
        hint = f"`rnnstate.StatefulModel(net)` carries it, but refuses this network because of `{mixing[0].path}`."
    return Finding("fresh", "note", path, message, hint)


def _mixing(model: Any) -> list[Mixing]:
    """Return what mixes time in a model whose graph can be followed. That of a subclassed model cannot."""
    net, mode = getattr(model, "net", model), getattr(model, "time_mixing", None)
    if not (is_container(net) and net.built) or mode == "refuse":
        return []  # the model has refused what mixes time
    # A model that may mix time takes each window by itself in layers with strides over time.
    carried = is_carried if mode is None else is_carried_without_strides
    return mixing_of(net, lambda layer: isinstance(layer, CarryingLayer) or carried(layer))


def _time_mixing(found: Mixing) -> Finding:
    message = f"It {found.what}, and nothing carries them. Windows differ from one pass over the whole sequence."
    return Finding("time-mixing", "warning", found.path, message, f"{found.way_out}.")


def _fresh_by_choice(path: str) -> Finding:
    message = "Each window starts from the layer's initial state, because `carry` does not name the layer."
    return Finding("fresh", "note", path, message)


def _decoder_carried(path: str, hint: str) -> Finding:
    message = (
        "Its steps are no steps of the sequence: they are made from one value per window, for example by `RepeatVector`. "
        "Its state is carried from window to window all the same, which is rarely meant."
    )
    return Finding("decoder-carried", "warning", path, message, hint)


def _time_distributed(model: Any) -> Iterator[Finding]:
    if keras.config.backend() != "tensorflow":
        return
    for path, layer in walk(getattr(model, "net", model)):
        if isinstance(layer, keras.layers.TimeDistributed):
            message = "On TensorFlow it returns wrong shapes once a second window length is used."
            hint = "A `Dense` layer needs no `TimeDistributed`: it works on the last axis."
            yield Finding("time-distributed", "warning", path, message, hint)
