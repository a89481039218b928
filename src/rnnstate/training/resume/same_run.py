"""The identity of a run: network, compile arguments, data, arguments of `fit`, callbacks and backend.

A run continues only from a checkpoint with the same identity. Keras counts names up within a process, as in `lstm_3`. The
identity ignores these counters, so a notebook may build the model again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from rnnstate.errors import SpecMismatchError
from rnnstate.training.roles import Carrying
from rnnstate.versions import installed_versions

# Bytes of data in the digest: all of a small dataset, and batches spread evenly over a large one.
DATA_BYTES = 1 << 26
_COUNTER = re.compile(r'_\d+(?=["/])')

# What to do about a part that differs, for the error message.
_HINTS = {
    "network": "Build the network of that run.",
    "compile": "Compile as in that run.",
    "learning_rate": "The rate goes on as the checkpoint says: compile with the rate of that run.",
    "data": "Use the windows of that run.",
    "validation_data": "Use the windows of that run.",
    "fit": "Call `fit` as in that run; `epochs` alone may grow.",
    "callbacks": "Use the callbacks of that run, in its order.",
    "backend": "Bits differ between backends: set `KERAS_BACKEND`.",
}


def identity_of(
    model: Carrying, windows: Any, validation: Any = None, *, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the identity of a call of `fit`, part by part.

    Args:
        model: A compiled `StatefulModel`.
        windows: The training data.
        validation: The validation data, or `None`.
        arguments: Other arguments of `fit` that affect the result.
    """
    callbacks = [type(callback).__name__ for callback in tree.flatten(arguments.get("callbacks") or [])]
    others = {name: repr(value) for name, value in sorted(arguments.items()) if name not in _FREE and value is not None}
    return {
        "network": {
            "weights": model.count_params(),
            "digest": _digest([model.state_spec.fingerprint, _computing(model.get_config())]),
        },
        "compile": {
            "optimizer": type(model.optimizer).__name__,
            # A config keeps "auto". The bits depend on what it means here.
            "digest": _digest(_without_rate({**model.get_compile_config(), "jit_compile": model.jit_compile})),
        },
        "data": describe_data(windows),
        "validation_data": None if validation is None else describe_data(validation),
        "fit": others,
        "callbacks": callbacks,
        "backend": keras.backend.backend(),
    }


# Arguments of `fit` that may change from one start to the next, or are compared elsewhere.
_FREE = ("epochs", "verbose", "callbacks", "shuffle")


def versions() -> dict[str, str]:
    """Return the versions of the libraries on which the bits of a result may depend."""
    return installed_versions(("rnnstate", "keras", keras.backend.backend(), "numpy", "python"))


def rate_of(model: Carrying) -> float:
    """Return the present learning rate of the optimizer."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def check_identity(kept: Mapping[str, Any], given: Mapping[str, Any], name: str) -> None:
    """Raise if a checkpoint belongs to another run.

    Args:
        kept: Identity in the checkpoint.
        given: Identity of this call of `fit`.
        name: The name of the checkpoint in the message.

    Raises:
        SpecMismatchError: With the first part that differs.
    """
    for part, value in given.items():
        if kept.get(part) != value:
            raise SpecMismatchError(
                f"A checkpoint must be of the same run. Expected: {part}={_shown(kept.get(part))}. "
                f"Received: {part}={_shown(value)}, with `{name}`. {_HINTS[part]}"
            )


def check_rate(kept: list[float], given: float, name: str) -> None:
    """Raise if the optimizer was compiled with a rate that the checkpoint's run has not seen.

    Args:
        kept: Rate in the beginning of the run, and at the checkpoint.
        given: Rate of the compiled optimizer.
        name: What the error calls the checkpoint.

    Raises:
        SpecMismatchError: If they differ.
    """
    if given not in kept:
        check_identity({"learning_rate": kept[0]}, {"learning_rate": given}, name)


def describe_data(windows: Any) -> dict[str, Any]:
    """Return the sizes of a dataset, and a digest of its keys, lengths, plan and values."""
    windows = getattr(windows, "whole", None) or windows  # the run does not depend on the number of processes
    windows.epoch = 0
    digest = hashlib.sha256(repr(windows.keys).encode())
    digest.update(np.asarray(windows.lengths).tobytes())
    for leaf in _leaves(windows):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return {
        "sequences": len(windows.keys),
        "steps": int(np.sum(windows.lengths)),
        "batches": len(windows),
        "batch_size": None if windows.batch_size is None else int(windows.batch_size),
        "length": int(windows.length),
        "order": str(windows.order),
        "digest": digest.hexdigest()[:16],
    }


def _leaves(windows: Any) -> Iterator[np.ndarray]:
    """Give the arrays of the first batch, the last batch, and as many between them as `DATA_BYTES` allows."""
    total, first = len(windows), [np.asarray(leaf) for leaf in tree.flatten(windows[0])]
    yield from first
    size = sum(leaf.nbytes for leaf in first)
    number = max(2, min(total, DATA_BYTES // max(size, 1)))
    chosen = np.linspace(0, total - 1, number).round().astype(int).tolist()
    for batch in list(dict.fromkeys(chosen))[1:]:
        for leaf in tree.flatten(windows[batch]):
            yield np.asarray(leaf)


def _computing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a model without `time_mixing`, which computes nothing: runs of release 0.1.0 had none."""
    return {name: value for name, value in config.items() if name != "time_mixing"}


def _without_rate(config: Any) -> Any:
    """Return a config without learning rates that are numbers, because these change during a run."""
    if isinstance(config, Mapping):
        kept = {k: v for k, v in config.items() if not (k == "learning_rate" and isinstance(v, int | float))}
        return {name: _without_rate(value) for name, value in kept.items()}
    return [_without_rate(part) for part in config] if isinstance(config, list | tuple) else config


def _digest(config: Any) -> str:
    # An object's `repr` may hold its address, which no other process shares.
    text = json.dumps(config, sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(_COUNTER.sub("", text).encode()).hexdigest()[:16]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
