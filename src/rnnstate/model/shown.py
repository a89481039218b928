"""The layers that a `StatefulModel` shows: those of the network inside, not the stand-ins that carry their states.

`layers` stays what Keras makes of it: `.keras` files of release 0.1.0 name the weights after it.
"""

from typing import Any

import keras

from rnnstate.messages import quoted
from rnnstate.network.clone import walk


class ShowsNetwork(keras.Model):
    """A model whose `get_layer` and `summary` are about the network that the user wrote."""

    start: Any

    @property
    def net(self) -> Any:
        """The network inside the model."""
        raise NotImplementedError

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Return a layer of the network, by its name or its index.

        Args:
            name: The name of the layer, or its path in nested networks, such as `encoder/lstm`.
            index: The index of the layer in `net.layers`. It takes precedence, as in Keras.

        Raises:
            ValueError: If there is no such layer.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="lstm")])
        >>> rs.StatefulModel(net).get_layer("lstm") is net.layers[0]
        True
        """
        if index is not None or name is None:
            return self.net.get_layer(name, index)
        paths = {layer.name: layer for layer in [*self.net.layers, self.start]} | dict(walk(self.net))
        if name not in paths:
            raise ValueError(f"The network has the layers {quoted(paths, 9)}. Received: `{name}`.")
        return paths[name]

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print the layers of the network, and the initial state if it has weights. Arguments are those of Keras."""
        keras.Model.summary(_View(self), *args, **kwargs)


class _View:
    """What Keras' summary asks of a model, with the layers of the network."""

    def __init__(self, model: ShowsNetwork) -> None:
        self._model = model
        self.layers = [*model.net.layers, *([model.start] if model.start.weights else [])]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Keras marks as private tells it about other kinds of models
            raise AttributeError(name)
        return getattr(self._model, name)
