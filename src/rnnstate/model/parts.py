"""The parts of a `StatefulModel` that Keras must not see."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rnnstate.model.bank import Bank
from rnnstate.model.by_key import States
from rnnstate.model.loops import Loops
from rnnstate.model.progress import Progress
from rnnstate.network.inputs import Inputs
from rnnstate.network.step import Stepper
from rnnstate.network.strides import Strides
from rnnstate.state.spec import StateSpec
from rnnstate.training.loader import Feeder


@dataclass
class Parts:
    """Parts of a model that Keras must not see, because it would count their weights twice.

    Args:
        net: The network of the user.
        spec: The leaves of the state.
        owners: The ports by the prefix of their leaves.
        states: The rows of the sequences in training, by key.
        inference: The bank of `evaluate` and `predict`.
        strides: The strides of the network over time.
        made_for: For each compiled function, the steps of the windows and the version of the network it was made for.
        stepper: The compiled `step`, which the model sets.
        inputs: The inputs of the network, which `step` checks.
        loops: The compiled loops of `trace` and `rollout`.
        feeder: What hands the batches to Keras.
        trained: Where a loop of `train_on_batch` stands.
        inferred: Where a loop of `test_on_batch` or `predict_on_batch` stands.
        in_step: Whether a training or an evaluation step runs, in which several processes meet.
    """

    net: Any
    spec: StateSpec
    owners: dict[str, Any]
    states: States
    inference: Bank
    strides: Strides
    made_for: dict[str, tuple[int, int]] = field(default_factory=dict)
    stepper: Stepper = field(init=False)
    inputs: Inputs = field(init=False)
    loops: Loops = field(default_factory=Loops)
    feeder: Feeder = field(default_factory=Feeder)
    trained: Progress = field(default_factory=Progress)
    inferred: Progress = field(default_factory=Progress)
    in_step: bool = False

    def __post_init__(self) -> None:
        self.inputs = Inputs(self.net)

    @contextmanager
    def within_step(self) -> Iterator[None]:
        """Note that a step runs, or is traced."""
        self.in_step = True
        try:
            yield
        finally:
            self.in_step = False
