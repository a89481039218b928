"""What the training code asks of a model.

`training/` lies below `model/` and cannot import `StatefulModel`. This protocol lists the parts of it that are used here.
"""

from typing import Any, Protocol

from rnnstate.network.strides import Strides
from rnnstate.state.spec import StateSpec


class Carrying(Protocol):
    """A `keras.Model` that carries states, such as `rnnstate.StatefulModel`.

    Args:
        net: The network that the model was made from.
        start: The layer of `rnnstate.initial` that gives the initial state.
        carry_backward: Whether layers that run backward are carried.
        states: The states of all sequences by key, `model.states`.
        state_spec: The leaves of the state.
        strides: The strides of the network over time.
        loss: The losses as `compile` got them. A model that is not compiled has none.
        optimizer: The optimizer of the compiled model.
        history: Keras' `History` of the last `fit`.
        stop_training: Whether a callback has ended the run.
        jit_compile: Whether the training step is compiled.
    """

    carry_backward: bool
    start: Any
    loss: Any
    optimizer: Any
    history: Any
    stop_training: bool
    jit_compile: bool

    @property
    def net(self) -> Any: ...
    @property
    def states(self) -> Any: ...
    @property
    def state_spec(self) -> StateSpec: ...
    @property
    def strides(self) -> Strides: ...
    @property
    def metrics_variables(self) -> list[Any]: ...
    @property
    def trainable_variables(self) -> list[Any]: ...
    @property
    def steps_per_execution(self) -> int: ...

    def exchange_states(self, windows: Any) -> None: ...
    def count_params(self) -> int: ...
    def get_config(self) -> dict[str, Any]: ...

    def get_compile_config(self) -> dict[str, Any]: ...
    def reset_metrics(self) -> None: ...
    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any: ...
    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any: ...
    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any: ...
