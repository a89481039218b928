"""An initial state that is learned: one trainable value per leaf."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from rnnstate.initial.base import InitialState
from rnnstate.initial.choosing import chosen
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
        leaves: The leaves to learn, by the names of leaves, layers or nested networks. The other leaves are those of the
            layers' own initial state. The default is all leaves.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> model = StatefulModel(net, initial_state=initial.Learned())
    >>> len(model.trainable_variables) - len(net.trainable_variables)
    1

    References:
        - Gers, Schraudolph and Schmidhuber, JMLR 3 (2002): states settle far from zero; the initial one is learned.
        - Noise on the initial state: Zimmermann, Tietz and Grothmann, "Forecasting with RNNs: 12 tricks" (2012).
    """

    def __init__(
        self,
        noise: float = 0.0,
        seed: int | None = None,
        at: str = "start",
        leaves: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(at=at, **kwargs)
        self.leaves = leaves
        self.noise, self.seed = noise, seed
        self._generator = keras.random.SeedGenerator(seed) if noise else None

    def attach(self, spec: StateSpec, own: Callable[[Any], State]) -> None:
        self._learned = tuple(chosen(spec, self.leaves))
        super().attach(spec, own)
        self._values = [
            self.add_weight(
                shape=spec[name].shape, dtype=spec[name].dtype, initializer="zeros", name=name.replace("/", "_")
            )
            for name in self._learned
        ]

    def state(self, batch_size: Any, observed: Any = None, training: bool = False) -> State:
        leaves = dict(self._model.own(batch_size))
        for name, learned in zip(self._learned, self._values, strict=True):
            leaf = leaves[name] + ops.convert_to_tensor(learned)
            leaves[name] = leaf + self._noise_like(leaf) if training and self._generator is not None else leaf
        return State.unchecked(leaves, leaves.values())

    def _noise_like(self, leaf: Array) -> Array:
        return keras.random.normal(ops.shape(leaf), stddev=self.noise, dtype=leaf.dtype, seed=self._generator)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "noise": self.noise, "seed": self.seed}
        # Files of release 0.1.0 have no `leaves`, and neither do layers that learn all of them.
        return config if self.leaves is None else {**config, "leaves": list(self.leaves)}
