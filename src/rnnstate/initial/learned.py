"""An initial state that is learned: one trainable value per leaf."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from rnnstate.initial.base import InitialState
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State


@keras.saving.register_keras_serializable("rnnstate")
class Learned(InitialState):
    """One trainable value per leaf, added to the layer's own initial state.

    Args:
        noise: Standard deviation of Gaussian noise added in training, so that the network does not rely on one exact
            point.
        seed: Seed of the noise.
        at: When it acts: `"start"` or `"window"`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> model = StatefulModel(net, initial_state=initial.Learned())
    >>> len(model.trainable_variables) - len(net.trainable_variables)
    1

    References:
        - Gers, Schraudolph and Schmidhuber, JMLR 3 (2002): states settle far from zero; the initial one is learned.
        - Noise on the initial state: Zimmermann, Tietz and Grothmann, "Forecasting with RNNs: 12 tricks" (2012).
    """

    def __init__(self, noise: float = 0.0, seed: int | None = None, at: str = "start", **kwargs: Any) -> None:
        super().__init__(at=at, **kwargs)
        self.noise, self.seed = noise, seed
        self._generator = keras.random.SeedGenerator(seed) if noise else None

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        super().attach(spec, own)
        self._values = [
            self.add_weight(shape=leaf.shape, dtype=leaf.dtype, initializer="zeros", name=name.replace("/", "_"))
            for name, leaf in spec.items()
        ]

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        own = self._model.own(batch_size)
        leaves = [
            value + ops.convert_to_tensor(learned) for value, learned in zip(own.values(), self._values, strict=True)
        ]
        if training and self._generator is not None:
            leaves = [leaf + self._noise_like(leaf) for leaf in leaves]
        return State.unchecked(own, leaves)

    def _noise_like(self, leaf: Array) -> Array:
        return keras.random.normal(ops.shape(leaf), stddev=self.noise, dtype=leaf.dtype, seed=self._generator)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise": self.noise, "seed": self.seed}
