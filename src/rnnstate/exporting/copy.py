"""A second model with the weights of the first: what is written is never the live model itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import walk


def settings_of(model: Any) -> dict[str, Any]:
    """Return what makes a model of a network, its initial state among it, as JSON can hold it."""
    return {"start": keras.saving.serialize_keras_object(model.start), "carry_backward": model.carry_backward}


def rebuilt(
    net: Any, settings: Mapping[str, Any], start_weights: Sequence[np.ndarray], custom_objects: Mapping[str, Any]
) -> StatefulModel:
    """Return a model of a network, of the settings of another, and of the weights of its initial state."""
    layer = keras.saving.deserialize_keras_object(settings["start"], custom_objects=custom_objects)
    # A file should hold operations that every runtime knows, not the loops that are fastest on one backend.
    model = StatefulModel(net, initial_state=layer, kernels="reference", carry_backward=settings["carry_backward"])
    layer.set_weights(start_weights)
    return model


def in_float32(model: Any, custom_objects: Mapping[str, Any]) -> Any:
    """Return the model, or a copy that computes in float32 if it computes in less than it keeps its weights in.

    Runtimes round half precision differently, by far more than what verification allows.
    """
    if all(layer.compute_dtype == layer.variable_dtype for _, layer in walk(model.net)):
        return model
    config = _whole_precision(keras.saving.serialize_keras_object(model.net))
    net = keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)
    net.set_weights(model.net.get_weights())
    return rebuilt(net, settings_of(model), model.start.get_weights(), custom_objects)


def _whole_precision(config: Any) -> Any:
    """Return the configuration of a network with float32 in place of mixed precision."""
    if isinstance(config, list):
        return [_whole_precision(part) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"].startswith("mixed_"):
        return {**config, "config": {**config["config"], "name": "float32"}}
    return {key: _whole_precision(value) for key, value in config.items()}
