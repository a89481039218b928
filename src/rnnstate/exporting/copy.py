"""Copies of a model: an export writes a second model with the same weights, never the live model."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import walk

# The arguments of `StatefulModel` that change its results.
_CHOICES = ("carry_backward", "carry", "time_mixing", "attention_window")


def settings_of(model: StatefulModel) -> dict[str, Any]:
    """Return the settings that turn a network into this model, of types that JSON can hold."""
    config = model.get_config()
    kept = {name: config[name] for name in _CHOICES if name in config}
    return {"start": config["initial_state"], "model": kept}


def rebuilt(
    net: Any, settings: Mapping[str, Any], start_weights: Sequence[np.ndarray], custom_objects: Mapping[str, Any]
) -> StatefulModel:
    """Return a model of a network.

    Args:
        net: The network.
        settings: What `settings_of` returned for another model.
        start_weights: The weights of the initial state.
        custom_objects: The user's own classes, by the names under which Keras looks for them.
    """
    layer = keras.saving.deserialize_keras_object(settings["start"], custom_objects=custom_objects)
    # The file should hold operations that every runtime knows, not the loops that are fastest on one backend.
    model = StatefulModel(net, initial_state=layer, kernels="reference", **settings["model"])
    layer.set_weights(start_weights)
    return model


def in_float32(model: StatefulModel, custom_objects: Mapping[str, Any]) -> StatefulModel:
    """Return the model, or a copy in float32 if a layer computes in a lower precision than its weights have.

    Runtimes round half precision differently, by far more than the tolerance of the verification.
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
