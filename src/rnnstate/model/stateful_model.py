"""`StatefulModel`: a Keras network whose state is an argument, a result, and one row of a bank for each sequence.

`step` is pure: `(x, state) -> (y, state)`. `fit`, `evaluate` and `predict` run Keras' methods on batches that say which
sequence each row belongs to. The compiled step gathers the states from a bank by slot, runs the network and scatters the
states back. Training and inference use separate banks, so they cannot mix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.initial.reading import read_initial
from rnnstate.kernels import kernels as backend_kernels
from rnnstate.model.bank import GIVEN, Bank
from rnnstate.model.by_key import States
from rnnstate.model.carry import Carried, masked_outputs
from rnnstate.model.compiled import forget_compiled, keep_length_static
from rnnstate.model.rollout import Unrolling
from rnnstate.network.attention_window import checked_window
from rnnstate.network.clone import carrying_clone
from rnnstate.network.masks import honouring_masks
from rnnstate.network.probe import trace
from rnnstate.network.step import Stepper, run
from rnnstate.ports.registry import choose_kernels
from rnnstate.state.checks import checked, checked_flags
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State
from rnnstate.training.fit_checks import check_windows, prepare_start, refuse_extras, unstacked
from rnnstate.training.fit_hooks import paced, variables_kept
from rnnstate.training.loader import BoundWindows, Feeder, Source
from rnnstate.training.resume.fit import fit_resumably
from rnnstate.windows.batch import Batch, is_batch


@dataclass
class _Parts:
    """Parts of a model that Keras must not see, because it would count their weights twice."""

    net: Any
    spec: StateSpec
    owners: dict[str, Any]
    states: States
    inference: Bank
    lengths: dict[str, int] = field(default_factory=dict)
    stepper: Stepper | None = None
    feeder: Feeder = field(default_factory=Feeder)


@keras.saving.register_keras_serializable("rnnstate")
class StatefulModel(Unrolling, keras.Model):
    """A Keras model with explicit state.

    Args:
        net: A built Functional or Sequential model, `stateful` or not. It may contain other models. The new model shares
            its layers and weights.
        initial_state: A layer of `rnnstate.initial` that computes the state at the start of a sequence. `"zeros"` is
            `initial.Zeros()`, which calls `get_initial_state` of each layer. Keras' layers return zeros.
        kernels: `"auto"` runs recurrent layers in faster loops where these compute the same. `"reference"` always uses
            Keras' loops.
        carry_backward: Whether to carry layers that run backward, also in `Bidirectional`, as Keras' stateful layers do.
            The backward pass over a window then starts where the backward pass over the previous window ended, and the
            outputs differ from a pass over the whole sequence. By default these layers start fresh in each window.
        attention_window: How many earlier steps a causal attention layer remembers and attends to: one number for all such
            layers, or a mapping from the names of layers to numbers. A sequence of at most `attention_window + 1` steps
            gives plain causal attention. Layers with a `sliding_window` need no number.

    Raises:
        UnsupportedModelError: If the network is subclassed or not built, or if a recurrent layer cannot be reached.
        ValueError: If `initial_state` or `kernels` is not one of the values above.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="lstm", return_sequences=True)])
    >>> model = StatefulModel(net)
    >>> model.state_spec
    StateSpec(lstm/h: (batch, units=8) float32, lstm/c: (batch, units=8) float32)
    >>> y, state = model.step(np.ones((3, 5, 2)), model.initial_state(batch_size=3))
    >>> state.batch_size
    3
    """

    train_function: Any  # what `fit` calls; Keras' own attribute

    def __init__(
        self,
        net: Any,
        initial_state: Any = "zeros",
        kernels: str = "auto",
        carry_backward: bool = False,
        attention_window: int | Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernels, self.carry_backward = kernels, carry_backward
        self.attention_window = checked_window(attention_window, net)
        self.start = read_initial(initial_state)
        self._carrier, ports = carrying_clone(
            net, carry_backward=carry_backward, attention_window=self.attention_window
        )
        if not any(layer.port.spec(layer.layer) for layer in ports):
            raise UnsupportedModelError(
                f"The network must have at least one layer with a memory. Received: `{net.name}` without any. "
                "Recurrent layers have one; `rnnstate.register_port` adds other kinds."
            )
        for layer in ports:
            choose_kernels(layer.port, kernels)
        backend_kernels().register_state(State)
        scope = trace(self._carrier)
        states = States(scope.spec, self._placeholder_state, self._sync, partial(forget_compiled, self, "train"))
        self._parts = _Parts(net, scope.spec, scope.owners, states, Bank(scope.spec, "inference"))
        self.start.attach(scope.spec, self._own_initial_state)
        self.built = True

    @property
    def net(self) -> Any:
        """The network that this model was made from. The model shares its weights."""
        return self._parts.net

    @property
    def state_spec(self) -> StateSpec:
        """The leaves of this model's state, in the order in which the network computes them."""
        return self._parts.spec

    @property
    def states(self) -> States:
        """Where each sequence stands in training: `states.read(keys)`, `.write(keys, state)`, `.reset(keys)`."""
        return self._parts.states

    @property
    def variables(self) -> list[Any]:
        """All variables, including the rows of both banks. JAX carries only the variables in this list."""
        parts = getattr(self, "_parts", None)
        banks = [*parts.states.bank.variables, *parts.inference.variables] if parts else []
        return [*super().variables, *banks]

    def initial_state(self, batch_size: Any, observed: Any = None) -> State:
        """Return the initial state of sequences.

        Args:
            batch_size: Number of rows.
            observed: Known values `(batch_size, values)`, if the initial state is computed from them.

        Returns:
            A `State` with leaves `(batch_size, *shape)`. Gradients flow into it.

        Raises:
            DataError: If the initial state needs observed values and you give none.
        """
        return self.start.state(batch_size, observed)

    def _own_initial_state(self, batch_size: Any) -> State:
        """Return the initial state that the layers define themselves."""
        leaves = {}
        for prefix, port in self._parts.owners.items():
            for name, value in port.initial(batch_size).items():
                leaves[f"{prefix}/{name}"] = ops.cast(value, self.state_spec[f"{prefix}/{name}"].dtype)
        return State.unchecked(self.state_spec, [leaves[name] for name in self.state_spec])

    def _placeholder_state(self, batch_size: int) -> State:
        """Return rows for sequences that have not started: an observed state is not known before the data."""
        return self._own_initial_state(batch_size) if self.start.needs_observed else self.start.state(batch_size)

    def step(
        self,
        x: Any,
        state: Mapping[str, Array],
        mask: Array | None = None,
        reset: Array | None = None,
        training: bool = False,
        observed: Any = None,
    ) -> tuple[Any, State]:
        """Run a window from a given state. The call is pure: it changes no variable.

        Args:
            x: Input `(batch, time, features)`; a mapping or list for networks with several inputs.
            state: State that each row starts from, leaves `(batch, *shape)`.
            mask: Boolean `(batch, time)` of the valid steps. The state after a window is that of the last valid step.
            reset: Boolean `(batch,)` of rows that return to the initial state before the first step, or `(batch, time)`
                of steps before which a row returns to it, as at the starts of episodes.
            training: Whether dropout is active.
            observed: Known values `(batch, values)`, if `reset` needs an initial state that is computed from them.

        Returns:
            The outputs `(batch, time, ...)` or `(batch, ...)`, and the `State` after the window.

        Raises:
            StateStructureError: If leaves are missing or unknown.
            StateShapeError: If a leaf, `mask` or `reset` has the wrong shape.
            StateValueError: If a leaf is not floating, or an array holds a value that is not finite.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True)])
        >>> model = StatefulModel(net)
        >>> y, state = model.step(np.ones((4, 5, 2)), model.initial_state(batch_size=4))
        >>> y, state = model.step(np.ones((4, 7, 2)), state)
        >>> tuple(y.shape)
        (4, 7, 3)
        """
        parts = self._parts
        if not hasattr(x, "shape"):
            x = tree.map_structure(lambda part: part if hasattr(part, "shape") else ops.convert_to_tensor(part), x)
        shape = x.shape if hasattr(x, "shape") else tree.flatten(x)[0].shape
        given = list(checked(parts.spec, state, batch_size=shape[0]).values())
        if mask is not None:
            mask = checked_flags("mask", mask, shape[:2])
        if reset is not None:
            reset = checked_flags("reset", reset, shape[: max(1, min(2, len(np.shape(reset))))])
        if parts.stepper is None:
            parts.stepper = Stepper(self._carrier, self.start, parts.spec, super().variables)
        return parts.stepper(x, given, mask, reset, training, observed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Run a batch of windows from the bank, or plain inputs from the initial state."""
        if is_batch(inputs):
            bank = self._parts.states.bank if training else self._parts.inference
            return Carried(self._carrier, bank, self.start, training)(Batch.from_keras(inputs))
        batch_size = ops.shape(tree.flatten(inputs)[0])[0]
        return run(self._carrier, inputs, self.start.state(batch_size, None, training), None, training)[0]

    def compile(self, *args: Any, metrics: Any = None, weighted_metrics: Any = None, **kwargs: Any) -> None:
        """Configure the model for training. The arguments are those of `keras.Model.compile`."""
        super().compile(
            *args, metrics=honouring_masks(metrics), weighted_metrics=honouring_masks(weighted_metrics), **kwargs
        )

    def make_train_function(self, force: bool = False) -> None:
        """Make the function that `fit` calls. On JAX it runs `steps_per_execution` steps in one compiled call."""
        made = self.train_function
        super().make_train_function(force)
        if self.train_function is not made:
            self.train_function = backend_kernels().many_steps(self, self.train_function)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model in the same way as the saved one."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Compute the loss without the padded steps."""
        return super().compute_loss(x, y, masked_outputs(x, y_pred), sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Update the metrics without the padded steps."""
        return super().compute_metrics(x, y, masked_outputs(x, y_pred), sample_weight)

    def fit(
        self, x: Any = None, y: Any = None, *, validation_data: Any = None, checkpoint: Any = None, **kwargs: Any
    ) -> Any:
        """Train on windows. Each starts from the state in which the previous window of its sequence ended.

        Args:
            x: `Windows` with targets. In every epoch each sequence starts from its initial state, or from the state that
                `states.write` gave.
            y: Must be left out. Give targets to `Windows`.
            validation_data: `Windows` with targets. They start from their initial states and use the inference bank.
            checkpoint: Folder, or `rnnstate.Checkpoint`, for checkpoints. If the process is killed, the same call continues
                from the last checkpoint and gives bit for bit the result of an uninterrupted run.
            kwargs: As in `keras.Model.fit`. `shuffle` must be False.

        Returns:
            Keras' `History`.

        Raises:
            DataError: If the data are not `Windows`, lack targets, do not fit the network or would be shuffled, or if no
                checkpoint in the folder is usable.
            SpecMismatchError: If the checkpoints in the folder belong to another run.
        """
        refuse_extras("fit", {**kwargs, "y": y})
        begin = int(kwargs.get("initial_epoch") or 0)
        source = check_windows(self, x, argument="x", targets=True, training=True, epoch=begin)
        x = source.windows
        if validation_data is not None:
            checked_data = check_windows(self, validation_data, argument="validation_data", targets=True)
            validation_data = self._bound_inference(checked_data, None)
        prepare_start(self.start, source)
        keep_length_static(self, self._parts.lengths, x, "train_function")
        kwargs["shuffle"] = False
        with variables_kept(self), paced(self, x, kwargs.get("callbacks")) as kwargs["callbacks"]:
            fit = partial(self._fed, super().fit)
            if checkpoint is not None:
                return fit_resumably(self, fit, source, validation_data, checkpoint, kwargs)
            return fit(BoundWindows(source, self.states.reserve(x.keys)), validation_data=validation_data, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *, initial_state: Any = None, **kwargs: Any) -> Any:
        """Return the loss and the metrics on windows. The training states stay as they are.

        Args:
            x: `Windows` with targets.
            y: Must be left out. Give targets to `Windows`.
            initial_state: State from which the sequences start, with one row for each key in `x.keys`. By default they
                start from the initial state of the model.
            kwargs: As in `keras.Model.evaluate`.

        Returns:
            As `keras.Model.evaluate`.

        Raises:
            DataError: If the data are not `Windows`, lack targets, or do not fit the network.
        """
        if self._parts.feeder.gave(x):  # by Keras, within `fit`
            result = super().evaluate(x, **kwargs)
            self._parts.feeder.finished(x)
            return result
        refuse_extras("evaluate", {name: value for name, value in {**kwargs, "y": y}.items() if name != "steps"})
        x = self._bound_inference(check_windows(self, x, argument="x", targets=True), initial_state)
        with variables_kept(self):
            return self._fed(super().evaluate, x, **kwargs)

    def predict(
        self, x: Any, *, initial_state: Any = None, return_state: bool = False, **kwargs: Any
    ) -> dict[Any, Any] | tuple[dict[Any, Any], State]:
        """Return the outputs for every step of every sequence. The training states stay as they are.

        Args:
            x: `Windows`.
            initial_state: State from which the sequences start, with one row for each key in `x.keys`.
            return_state: Whether to return the state at the end of each sequence, too.
            kwargs: As in `keras.Model.predict`.

        Returns:
            `{key: (time, outputs)}` in time order, or `{key: (windows, outputs)}` for a network with one output per window.
            With `return_state=True` also a `State` with one row for each key in `x.keys`.

        Raises:
            DataError: If the data are not `Windows`, or do not fit the network.
        """
        refuse_extras("predict", kwargs)
        source = check_windows(self, x, argument="x", targets=False)
        x = source.windows
        if not hasattr(x, "assemble"):
            raise DataError(
                "`predict` puts outputs back in time order, so it needs `rnnstate.Windows`. "
                "Received: a dataset of your own. Use `Windows`, or `step` in a loop."
            )
        bound = self._bound_inference(source, initial_state)
        with variables_kept(self):
            outputs = self._fed(super().predict, bound, **kwargs)
        per_step = tree.flatten(outputs)[0].ndim > 2
        result: dict[Any, Any] = x.assemble(unstacked(outputs, len(x)), per_step=per_step)
        return (result, self._parts.inference.read(np.arange(1, len(x.keys) + 1))) if return_state else result

    def _bound_inference(self, source: Source, initial_state: Any) -> BoundWindows:
        """Bind windows to rows of the inference bank, which start from the given or the initial states."""
        prepare_start(self.start, source)
        windows = source.windows
        rows = len(windows.keys)
        given = None if initial_state is None else checked(self.state_spec, initial_state, batch_size=rows)
        given = None if given is None else checked(self.state_spec, given.numpy())
        bank = self._parts.inference
        if bank.reserve(rows):
            forget_compiled(self, "test", "predict")
        keep_length_static(self, self._parts.lengths, windows, "test_function", "predict_function")
        slots = np.arange(1, rows + 1, dtype=np.int32)
        bank.clear_flags()
        if given is not None:
            bank.write(slots, given, GIVEN)
        return BoundWindows(source, slots)

    def _fed(self, function: Callable[..., Any], data: BoundWindows, **kwargs: Any) -> Any:
        """Call Keras' `fit`, `evaluate` or `predict` on windows that are loaded ahead."""
        return self._parts.feeder.run(function, data, self.steps_per_execution, **kwargs)

    def _sync(self) -> None:
        """Update the variables. On JAX, Keras keeps their values elsewhere while it trains."""
        if hasattr(self, "jax_state_sync"):
            self.jax_state_sync()

    def export(self, filepath: Any, format: str | None = None, **kwargs: Any) -> Any:
        """Write the step model to a file for another runtime, as `rnnstate.export` does.

        Keras' own `export` would write the network without its state.

        Args and results are those of `rnnstate.export`. Keras names the first argument `filepath`.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
        >>> StatefulModel(net).export("explicit.keras").manifest["state"][0]["input"]
        'state.gru.h'
        """
        import rnnstate  # `exporting` imports this module, so the name is looked up at the call

        return rnnstate.export(self, filepath, format, **kwargs)

    def get_config(self) -> dict[str, Any]:
        parts = {"net": self.net, "initial_state": self.start}
        own = {"name": self.name, "kernels": self.kernels, "carry_backward": self.carry_backward}
        if self.attention_window is not None:  # checkpoints record this mapping, and those of release 0.1.0 lack the key
            own["attention_window"] = self.attention_window
        return {**own, **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "StatefulModel":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("net", "initial_state")
        }
        return cls(**{**config, **parts})

    def save_own_variables(self, store: Any) -> None:
        """Save the states of all keys along with the weights."""
        self.states.save(store)

    def load_own_variables(self, store: Any) -> None:
        """Load the states of all keys along with the weights."""
        self.states.load(store)
