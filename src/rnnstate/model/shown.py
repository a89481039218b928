"""The layers that a `StatefulModel` shows: those of the network inside, not the stand-ins that carry their states."""

from typing import Any

import keras

from rnnstate.messages import quoted
from rnnstate.network.clone import walk


class ShowsNetwork(keras.Model):
    """A model whose `layers`, `get_layer` and `summary` are about the network that the user wrote."""

    @property
    def layers(self) -> list[Any]:
        """The layers of the network, and the initial state if it has weights."""
        if not hasattr(self, "_parts"):  # while the model is made
            return list(super().layers)
        start = self.start
        return [*self.net.layers, *([start] if start.weights else [])]

    @property
    def net(self) -> Any:
        """The network inside the model."""
        raise NotImplementedError

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Return a layer of the network, by its name or its index.

        Args:
            name: The name of the layer, or its path in nested networks, such as `encoder/lstm`.
            index: The index of the layer in `layers`. It takes precedence, as in Keras.

        Raises:
            ValueError: If there is no such layer.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="lstm")])
        >>> rs.StatefulModel(net).get_layer("lstm") is net.layers[0]
        True
        """
        if index is not None or name is None:
            return super().get_layer(name, index)
        paths = {**{layer.name: layer for layer in self.layers}, **dict(walk(self.net))}
        if name not in paths:
            raise ValueError(f"The network has the layers {quoted(paths, 9)}. Received: `{name}`.")
        return paths[name]
