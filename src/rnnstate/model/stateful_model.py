"""`StatefulModel`: a Keras network whose state is an argument, a result, and one row of a bank for each sequence.

`step` is pure: `(x, state) -> (y, state)`. `fit`, `evaluate` and `predict` run Keras' methods on batches that say which
sequence each row belongs to. The compiled step gathers the states from a bank by slot, runs the network and scatters the
states back. Training and inference use separate banks, so they cannot mix.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.errors import ExportError, UnsupportedModelError
from rnnstate.initial.reading import read_initial
from rnnstate.kernels import kernels as backend_kernels
from rnnstate.messages import quoted
from rnnstate.model.bank import Bank
from rnnstate.model.by_batch import ByBatch
from rnnstate.model.by_key import States
from rnnstate.model.carry import Carried
from rnnstate.model.compiled import forget_compiled
from rnnstate.model.parts import Parts
from rnnstate.model.rollout import Unrolling
from rnnstate.model.shown import ShowsNetwork
from rnnstate.network.attention_window import checked_window
from rnnstate.network.clone import carrying_clone
from rnnstate.network.probe import trace
from rnnstate.network.served import Served
from rnnstate.network.step import Stepper, run
from rnnstate.network.strides import Strides
from rnnstate.network.time_mixing import (
    Followed,
    follow,
    is_carried_without_strides,
    mixing_of,
    mode_of_old_file,
    read_mode,
    refuse_mixing,
    refuse_unsized,
)
from rnnstate.ports.registry import choose_kernels
from rnnstate.state.checks import checked, checked_flags
from rnnstate.state.spec import StateSpec
from rnnstate.state.state import Array, State
from rnnstate.windows.batch import Batch, is_batch


@keras.saving.register_keras_serializable("rnnstate")
class StatefulModel(Unrolling, ShowsNetwork, ByBatch):
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
        carry: The names of the layers that carry, such as `["encoder"]`. A nested network stands for its layers. Every
            other layer starts from its initial state in each window and has no leaves. The default is all layers.
        attention_window: How many earlier steps a causal attention layer remembers and attends to: one number for all such
            layers, or a mapping from the names of layers to numbers. A sequence of at most `attention_window + 1` steps
            gives plain causal attention. Layers with a `sliding_window` need no number.
        time_mixing: `"refuse"` refuses a network with a layer whose output at a step depends on other steps, and for which
            no port carries what it needs of earlier windows. `"allow"` lets such layers take each window by itself.

    Raises:
        UnsupportedModelError: If the network is subclassed or not built, if a recurrent layer cannot be reached, if
            `carry` names no layer with a memory, or if a layer mixes time and `time_mixing` does not allow it.
        ValueError: If `initial_state`, `kernels` or `time_mixing` is not one of the values above.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="lstm", return_sequences=True)])
    >>> model = StatefulModel(net)
    >>> model.state_spec
    StateSpec(lstm/h: (batch, units=8) float32, lstm/c: (batch, units=8) float32)
    >>> y, state = model.step(np.ones((3, 5, 2)), model.initial_state(batch_size=3))
    >>> state.batch_size
    3
    """

    def __init__(
        self,
        net: Any,
        initial_state: Any = "zeros",
        kernels: str = "auto",
        carry_backward: bool = False,
        carry: Sequence[str] | None = None,
        time_mixing: str = "refuse",
        attention_window: int | Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernels, self.carry_backward, self.time_mixing = kernels, carry_backward, read_mode(time_mixing)
        self.attention_window = checked_window(attention_window, net)
        self.start = read_initial(initial_state)
        self.carry = carry
        # A network that may mix time takes each window by itself, so layers with strides get no memory.
        strict = self.time_mixing == "refuse"
        self._carrier, ports = carrying_clone(net, carry_backward, carry, self.attention_window, strided=strict)
        found = follow(self._carrier) if strict else Followed()
        refuse_mixing([node for node in found.mixing if node.tried])
        strides = Strides.of(net, found)
        if not any(layer.port.spec(layer.layer) for layer in ports):
            raise UnsupportedModelError(
                f"The network must have at least one layer with a memory. Received: `{net.name}` without any. "
                "Recurrent layers have one; `rnnstate.register_port` adds other kinds."
            )
        for layer in ports:
            choose_kernels(layer.port, kernels)
            layer.rate = found.input_rates.get(id(layer), 1)
        backend_kernels().register_state(State)
        # The trace names a layer that fails, which the probe could not try either.
        scope = trace(self._carrier, 2 * strides.total)
        refuse_mixing(found.mixing)
        refuse_unsized(found.unsized)
        spec = scope.spec
        states = States(spec, self._placeholder_state, self._sync, partial(forget_compiled, self, "train"))
        self._parts = Parts(net, spec, scope.owners, states, Bank(spec, "inference"), strides)
        self.start.attach(spec, self._own_initial_state)
        served = Served(partial(getattr, super(), "variables"), self._sync_values)
        self._parts.stepper = Stepper(self._carrier, self.start, spec, served)
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
    def strides(self) -> Strides:
        """The strides of the network over time: each window must have a multiple of `strides.total` steps."""
        return self._parts.strides

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
        result: State = self._parts.stepper.served.run(partial(self.start.state, batch_size, observed))
        return result

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
        """Run a window from a given state. The call is pure: it changes no weight, no average and no state.

        Threads may call it at the same time, also while one thread is in `fit`, `evaluate` or `predict`.

        Args:
            x: Input `(batch, time, features)`; a mapping or list for networks with several inputs. For a network with
                strides over time, `time` is a multiple of its total stride.
            state: State that each row starts from, leaves `(batch, *shape)`.
            mask: Boolean `(batch, time)` of the valid steps. The state after a window is that of the last valid step.
            reset: Boolean `(batch,)` of rows that return to the initial state before the first step, or `(batch, time)`
                of steps before which a row returns to it, as at the starts of episodes.
            training: Whether dropout is active. Averages and seeds stay as they are; `training_step` returns the new ones.
            observed: Known values `(batch, values)`, if `reset` needs an initial state that is computed from them.

        Returns:
            The outputs `(batch, time, ...)` or `(batch, ...)`, and the `State` after the window. With strides over time, the
            outputs are `(batch, time / strides, ...)`.

        Raises:
            StateStructureError: If leaves are missing or unknown.
            StateShapeError: If a leaf, `mask` or `reset` has the wrong shape.
            StateValueError: If a leaf is not floating, or a NumPy array of the state holds a value that is not finite.
            DataError: If `x` does not fit the network, if steps, mask or reset do not keep to whole groups of a network with
                strides over time, or if `x` is a NumPy array with a value that is not finite. Arrays of the
                backend are not searched for such values, because each search would wait for the device.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True)])
        >>> model = StatefulModel(net)
        >>> y, state = model.step(np.ones((4, 5, 2)), model.initial_state(batch_size=4))
        >>> y, state = model.step(np.ones((4, 7, 2)), state)
        >>> tuple(y.shape)
        (4, 7, 3)
        """
        checked_arguments = self._checked(x, state, mask, reset)
        if not training:
            return self._parts.stepper(*checked_arguments, observed)
        y, final, moved = self._parts.stepper.training(*checked_arguments, observed)
        self._parts.stepper.warn_once(moved)
        return y, final

    def training_step(
        self,
        x: Any,
        state: Mapping[str, Array],
        mask: Array | None = None,
        reset: Array | None = None,
        observed: Any = None,
    ) -> tuple[Any, State, list[tuple[Any, Array]]]:
        """Run `step(training=True)`, and return the new values of averages and seeds, too. The call changes no variable.

        Args and errors are those of `step`.

        Returns:
            The outputs, the `State` after the window, and `[(variable, new value)]`: the averages of BatchNormalization and
            the seeds of Dropout, for example. A training loop assigns them; else each call draws the same dropout. On
            PyTorch, Keras draws dropout from PyTorch's own generator, which every call moves.

        Example:

        >>> layers = [keras.layers.GRU(3, return_sequences=True), keras.layers.BatchNormalization()]
        >>> model = StatefulModel(keras.Sequential([keras.Input((None, 2)), *layers]))
        >>> y, state, moved = model.training_step(np.ones((4, 5, 2)), model.initial_state(batch_size=4))
        >>> for variable, value in moved:
        ...     variable.assign(value)  # doctest: +SKIP
        >>> [variable.name for variable, _ in moved]
        ['moving_mean', 'moving_variance']
        """
        return self._parts.stepper.training(*self._checked(x, state, mask, reset), observed)

    def _checked(self, x: Any, state: Any, mask: Any, reset: Any) -> tuple[Any, list[Array], Any, Any]:
        """Return the arguments of a step after all checks, with the leaves in the order of the spec."""
        x = self._parts.inputs.arrays(x)
        self._parts.inputs.check(x)
        self._parts.strides.check_input(x)
        shape = x.shape if hasattr(x, "shape") else tree.flatten(x)[0].shape
        given = list(checked(self._parts.spec, state, batch_size=shape[0]).values())
        if mask is not None:
            mask = checked_flags("mask", mask, shape[:2])
        if reset is not None:
            reset = checked_flags("reset", reset, shape[: max(1, min(2, len(np.shape(reset))))])
        self._parts.strides.check_flags(mask, reset)
        return x, given, mask, reset

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Run plain inputs from the initial state, as `model(x)` does, or a bound batch of windows from the bank.

        `model(x)` carries nothing and keeps no state: each call starts anew. `step` takes a state and returns the next one.
        """
        if is_batch(inputs):
            bank = self._parts.states.bank if training else self._parts.inference
            return Carried(self._carrier, bank, self.start, training)(Batch.from_keras(inputs))
        self._parts.strides.check_input(inputs)
        batch_size = ops.shape(tree.flatten(inputs)[0])[0]
        return run(self._carrier, inputs, self.start.state(batch_size, None, training), None, training)[0]

    def _sync(self) -> None:
        """Update the variables before an access to the rows of the sequences. Only the thread that trains may do so."""
        self._parts.stepper.served.check_thread("model.states")
        self._sync_values()

    def _sync_values(self) -> None:
        """Update the variables. On JAX, Keras keeps their values elsewhere while it trains."""
        if hasattr(self, "jax_state_sync"):
            self.jax_state_sync()

    def export(self, filepath: Any, format: str | None = None, **kwargs: Any) -> Any:
        """Write the step model to a file for another runtime, as `rnnstate.export` does.

        Keras' own `export` would write the network without its state.

        Args and results are those of `rnnstate.export`. Keras names the first argument `filepath`, and "tf_saved_model" the
        format "saved_model". Keras' `verbose` has no effect.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
        >>> StatefulModel(net).export("explicit.keras").manifest["state"][0]["input"]
        'state.gru.h'
        """
        import rnnstate  # `exporting` imports this module, so the name is looked up at the call

        kwargs.pop("verbose", None)
        if unknown := [name for name in kwargs if name not in ("time", "force", "metadata")]:
            raise ExportError(
                "`export` of a `StatefulModel` takes `format`, `time`, `force` and `metadata`, as `rnnstate.export` does: "
                f"it writes the step model, whose inputs follow from the network. Received: {quoted(unknown)}. Leave it "
                "out."
            )
        return rnnstate.export(self, filepath, format, **kwargs)

    def get_config(self) -> dict[str, Any]:
        parts = {"net": self.net, "initial_state": self.start}
        own: dict[str, Any] = {"name": self.name, "kernels": self.kernels, "carry_backward": self.carry_backward}
        # Files of release 0.1.0 have no such entries, and neither do models as they were then.
        # A file without the entry that holds layers with strides is one of that release: these layers then carry nothing.
        if self.time_mixing != "refuse" or self.strides.total > 1:
            own["time_mixing"] = self.time_mixing
        if self.carry is not None:
            own["carry"] = list(self.carry)
        if self.attention_window is not None:
            own["attention_window"] = self.attention_window
        return {**own, **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "StatefulModel":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("net", "initial_state")
        }
        mode = config.get("time_mixing")
        if mode is None:
            choices: dict[str, Any] = {
                name: config.get(name) for name in ("carry_backward", "carry", "attention_window")
            }
            carrier = carrying_clone(parts["net"], **choices, strided=False)[0]
            mode = mode_of_old_file(mixing_of(carrier, is_carried_without_strides))
        return cls(**{**config, **parts, "time_mixing": mode})

    def save_own_variables(self, store: Any) -> None:
        """Save the states of all keys along with the weights."""
        self.states.save(store)

    def load_own_variables(self, store: Any) -> None:
        """Load the states of all keys along with the weights."""
        self.states.load(store)
