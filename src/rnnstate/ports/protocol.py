"""Ports: what each kind of layer remembers, and how to call it with that memory as an argument.

This is the only file that knows Keras' recurrent layers. A port says which leaves a layer has (`spec`), what they are at
the start of a sequence (`initial`), and how to run the layer from given leaves (`call`). `register_port` adds ports for
other layers with a memory of their own: a causal convolution, an attention cache, a linear recurrence.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops, tree

from rnnstate.errors import UnsupportedModelError
from rnnstate.ports.fast_path import run_fast
from rnnstate.ports.scan import scan_cell
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array

LocalState = dict[str, Array]


class Port:
    """How to run one layer with its memory as an argument and a result.

    Subclass it for a layer with a memory of its own, and register the subclass with `register_port`.

    Args:
        layer: The built layer. The port uses its weights and never changes its state.

    Example:

    >>> class Total(keras.layers.Layer):
    ...     def call(self, x):
    ...         return keras.ops.cumsum(x, axis=1)
    >>> class TotalPort(Port):
    ...     def spec(self, layer):
    ...         return {"total": LeafSpec((3,))}
    ...     def call(self, x, state, mask=None, training=False):
    ...         y = self.layer(x) + state["total"][:, None]
    ...         return y, {"total": y[:, -1]}
    >>> register_port(Total, TotalPort)
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        """Return the leaves of `layer` by local name, such as `{"h": LeafSpec((8,))}`."""
        raise UnsupportedModelError(f"A port must say what its layer remembers. Received: {type(self)} without `spec`.")

    def initial(self, batch_size: Any) -> LocalState:
        """Return the leaves at the start of a sequence, `(batch, *shape)`: zeros unless overridden."""
        spec = self.spec(self.layer)
        return {name: ops.zeros((batch_size, *leaf.shape), dtype=leaf.dtype) for name, leaf in spec.items()}

    def call(
        self, x: Array, state: LocalState, mask: Array | None = None, training: bool = False
    ) -> tuple[Array, LocalState]:
        """Run the layer on a window.

        Args:
            x: Input `(batch, time, features)`.
            state: Leaves by local name, `(batch, *shape)`.
            mask: Boolean `(batch, time)` of the valid steps, or `None` if all are. The state after a window is that
                after its last valid step.
            training: Whether dropout and the like are active.

        Returns:
            The layer's output, and its leaves after the last valid step.
        """
        raise UnsupportedModelError(f"A port must run its layer. Received: {type(self)} without `call`.")


class RecurrentPort(Port):
    """Port of every `keras.layers.RNN`: LSTM, GRU, SimpleRNN, ConvLSTM, stacks of cells and cells of your own."""

    kernels = "auto"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self._twin = _twin(layer)
        self._specs: dict[str, LeafSpec] = {}
        self._structure: Any = None
        self._flat = False

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        if not self._specs:  # asked for at every call
            state = layer.get_initial_state(batch_size=1)
            leaves = zip(leaf_names(layer), tree.flatten(state), strict=True)
            self._structure = tree.map_structure(lambda leaf: 0, state)
            self._flat = isinstance(state, list) and not any(map(tree.is_nested, state))
            self._specs = {name: LeafSpec(tuple(leaf.shape[1:]), layer.variable_dtype) for name, leaf in leaves}
        return self._specs

    def initial(self, batch_size: Any) -> LocalState:
        leaves = tree.flatten(self.layer.get_initial_state(batch_size=batch_size))
        return dict(zip(self.spec(self.layer), leaves, strict=True))

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
    ) -> tuple[Array, LocalState]:
        names = list(self.spec(self.layer))
        # JAX' scan wants the plain nested lists that the cells themselves return, in their order.
        given, start = (
            None if leaves is None else self._packed([leaves[name] for name in names]) for leaves in (state, initial)
        )
        y, final = self._run(x, given, mask, training, reset, start)
        result = (y, *final) if self.layer.return_state else y
        return result, dict(zip(names, final if self._flat else tree.flatten(final), strict=True))

    def _packed(self, leaves: list[Array]) -> Any:
        # Packing takes as long as a short window does.
        return leaves if self._flat else tree.pack_sequence_as(self._structure, leaves)

    def _run(self, x: Array, given: Any, mask: Any, training: bool, reset: Any, start: Any) -> tuple[Array, Any]:
        """Run the layer in the fastest loop that can do what is asked, on leaves in the nesting of its cell."""
        fast = run_fast(self.layer, x, given, mask, training, reset, start) if self.kernels == "auto" else None
        if fast is not None:
            return fast
        if reset is None and (mask is None or _masks_itself(self.layer)):
            y, *final = self._twin(x, initial_state=given, mask=_aligned(mask, given), training=training)
            return y, final
        return scan_cell(self.layer, x, given, mask, training, reset, start)


_CONVOLUTIONS = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
_STOCK_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)


def _masks_itself(layer: Any) -> bool:
    """True if Keras masks this layer rightly on every backend: on JAX it takes a cell's first leaf for its output."""
    cells = layer.cell.cells if isinstance(layer.cell, layers.StackedRNNCells) else [layer.cell]
    return isinstance(layer, _CONVOLUTIONS) or all(type(cell) in _STOCK_CELLS for cell in cells)


def _aligned(mask: Array | None, state: Any) -> Array | None:
    """Give a mask `(batch, time)` the rank of the leaves, or JAX sets batch against the axes of an image."""
    rank = len(tree.flatten(state)[0].shape)
    return mask if mask is None or rank == 2 else ops.reshape(mask, (*ops.shape(mask), *[1] * (rank - 1)))


class BackwardPort(RecurrentPort):
    """Port of a recurrent layer that runs backward, for models that carry such layers too.

    A window starts from the state in which the backward pass over the previous window ended. Nothing crosses a reset:
    steps before and after it run as if they were in windows of their own, and those after the last one lead on.
    """

    def _run(self, x: Array, given: Any, mask: Any, training: bool, reset: Any, start: Any) -> tuple[Array, Any]:
        if reset is None and (mask is None or _masks_itself(self.layer)):
            return super()._run(x, given, mask, training, None, None)
        x, mask = (None if part is None else ops.flip(part, axis=1) for part in (x, mask))
        if reset is None:
            return scan_cell(self.layer, x, given, mask, training)
        any_reset = ops.any(reset, axis=1, keepdims=True)
        # Backward, a step is met after the one that follows it; what is carried is of an episode before the last one.
        fresh = ops.flip(ops.concatenate([reset[:, 1:], any_reset], axis=1), axis=1)
        y, _ = scan_cell(self.layer, x, given, mask, training, fresh, start)
        last = ops.flip(_after_last(reset), axis=1)
        valid = last if mask is None else ops.logical_and(mask, last)
        fresh = ops.concatenate([any_reset, ops.zeros_like(fresh[:, 1:])], axis=1)
        return y, scan_cell(self.layer, x, given, valid, training, fresh, start)[1]


class FreshBackwardPort(Port):
    """Port of a recurrent layer that runs backward and starts fresh in each window: it has no leaves to carry."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self._backward = BackwardPort(layer)

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {}

    def initial(self, batch_size: Any) -> LocalState:
        return {}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
    ) -> tuple[Array, LocalState]:
        fresh = self._backward.initial(ops.shape(x)[0])
        return self._backward.call(x, fresh, mask=mask, training=training, reset=reset, initial=fresh)[0], {}


def _after_last(reset: Array) -> Array:
    """Return which steps belong to the last episode of each row."""
    count = ops.cumsum(ops.cast(reset, "int32"), axis=1)
    return ops.equal(count, count[:, -1:])


class BidirectionalPort(Port):
    """Port of `keras.layers.Bidirectional`: the forward layer is carried, the backward layer starts fresh.

    A backward layer meets a window's last step first; the state it ends in belongs to the window's first step, and the
    next window has no use for it. `carry_backward` carries it all the same, as Keras' own stateful layer does.
    """

    carry_backward = False

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        if layer.return_state:
            raise UnsupportedModelError(
                f"Layer `{layer.name}` must have `return_state=False`: its states are those of the model. "
                "Received: return_state=True. Use two recurrent layers and `Concatenate` instead."
            )
        self._forward, self._backward = RecurrentPort(layer.forward_layer), BackwardPort(layer.backward_layer)

    def _carried(self) -> dict[str, RecurrentPort]:
        return {"forward": self._forward} | ({"backward": self._backward} if self.carry_backward else {})

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        return {
            f"{side}/{name}": leaf
            for side, port in self._carried().items()
            for name, leaf in port.spec(port.layer).items()
        }

    def initial(self, batch_size: Any) -> LocalState:
        sides = {side: port.initial(batch_size) for side, port in self._carried().items()}
        return {f"{side}/{name}": leaf for side, leaves in sides.items() for name, leaf in leaves.items()}

    def call(
        self,
        x: Array,
        state: LocalState,
        mask: Array | None = None,
        training: bool = False,
        reset: Array | None = None,
        initial: LocalState | None = None,
    ) -> tuple[Array, LocalState]:
        outputs: list[Array] = []
        final: LocalState = {}
        for side, port in (("forward", self._forward), ("backward", self._backward)):
            fresh = port.initial(ops.shape(x)[0])
            local, start = _below(side, state) or fresh, _below(side, initial or {}) or fresh
            y, leaves = port.call(x, local, mask=mask, training=training, reset=reset, initial=start)
            outputs.append(y)
            final |= {f"{side}/{name}": leaf for name, leaf in leaves.items()}
        if self.layer.return_sequences:
            outputs[1] = ops.flip(outputs[1], axis=1)
        return _merge(self.layer.merge_mode, *outputs), {name: final[name] for name in self.spec(self.layer)}


def _below(side: str, leaves: Mapping[str, Array]) -> LocalState:
    return {name.removeprefix(f"{side}/"): leaf for name, leaf in leaves.items() if name.startswith(f"{side}/")}


def _merge(mode: str | None, forward: Array, backward: Array) -> Array:
    """Join both directions as `Bidirectional(merge_mode=...)` does."""
    if mode == "concat":
        return ops.concatenate([forward, backward], axis=-1)
    if mode == "mul":
        return forward * backward
    if mode is None:
        return [forward, backward]
    return (forward + backward) / (2 if mode == "ave" else 1)


def _twin(layer: Any) -> Any:
    """Return a layer like `layer`, around the same cell and so the same weights, whose state is explicit."""
    config = {
        **layer.get_config(),
        "return_state": True,
        "stateful": False,
        "activity_regularizer": None,  # the loss of an activity belongs to the layer that is tracked
    }
    if "cell" in config:
        del config["cell"]
        return type(layer)(layer.cell, **config)
    twin = type(layer).from_config(config)
    twin.cell = layer.cell
    return twin


def leaf_names(layer: Any) -> list[str]:
    """Return the local names of a recurrent layer's leaves, in the order in which Keras flattens its state.

    LSTM cells have `h` and `c`, GRU and SimpleRNN cells `h`; the cells of a stack are numbered: `0/h`. A cell of your own
    may name its leaves by an attribute `state_names`; else a single leaf is `h`, and several are numbered.
    """
    if isinstance(layer, layers.Bidirectional):
        pairs = (("forward", layer.forward_layer), ("backward", layer.backward_layer))
        return [f"{side}/{name}" for side, inner in pairs for name in leaf_names(inner)]
    structure = layer.get_initial_state(batch_size=1)
    if isinstance(layer.cell, layers.StackedRNNCells):
        cells = zip(layer.cell.cells, structure, strict=True)
        return [f"{i}/{name}" for i, (cell, leaves) in enumerate(cells) for name in _cell_names(layer, cell, leaves)]
    return _cell_names(layer, layer.cell, structure)


def _cell_names(layer: Any, cell: Any, structure: Any) -> list[str]:
    count = len(tree.flatten(structure))
    names = getattr(cell, "state_names", None)
    if names is not None and len(names) == count:
        return list(names)
    if isinstance(cell, layers.LSTMCell) or isinstance(
        layer, (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
    ):
        return ["h", "c"]
    return ["h"] if count == 1 else _numbered(structure)


def _numbered(structure: Any, prefix: str = "") -> list[str]:
    """Name leaves by their place in a nested structure: `0`, `1/0`, `1/1`."""
    if not isinstance(structure, (list, tuple)):
        return [prefix.rstrip("/")]
    return [name for i, part in enumerate(structure) for name in _numbered(part, f"{prefix}{i}/")]


_REGISTRY: dict[type, type] = {layers.RNN: RecurrentPort, layers.Bidirectional: BidirectionalPort}


def register_port(layer_class: type, port_class: type) -> None:
    """Make every layer of a class carry, by saying what it remembers.

    Args:
        layer_class: A `keras.Layer` subclass with a memory along the time axis.
        port_class: A class with `spec(layer)`, `initial(batch)` and `call(x, state, mask, training)`, made with the
            layer as its only argument; subclass `Port` to inherit an initial state of zeros.

    Raises:
        TypeError: If `layer_class` is no Keras layer class, or the port lacks a method.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(f"`layer_class` must be a subclass of `keras.Layer`. Received: layer_class={layer_class!r}.")
    missing = [name for name in ("spec", "initial", "call") if not callable(getattr(port_class, name, None))]
    if missing:
        raise TypeError(f"A port must have `spec`, `initial` and `call`. Received: {port_class!r} without {missing}.")
    _REGISTRY[layer_class] = port_class


def find_port(layer: Any, carry_backward: bool = False) -> Any | None:
    """Return a port for `layer`, or `None` if nothing of it is carried. The nearest class registered wins.

    Args:
        layer: Any layer.
        carry_backward: Whether layers that run backward are carried.
    """
    port_class = next((_REGISTRY[kind] for kind in type(layer).__mro__ if kind in _REGISTRY), None)
    if port_class is None or (runs_backward(layer) and not carry_backward):
        return None
    port = (BackwardPort if port_class is RecurrentPort and runs_backward(layer) else port_class)(layer)
    if isinstance(port, BidirectionalPort):
        port.carry_backward = carry_backward
    return port


def choose_kernels(port: Any, kernels: str) -> None:
    """Let Keras' own layers under a port run in fast loops (`"auto"`), or not (`"reference"`).

    Raises:
        ValueError: If `kernels` is neither.
    """
    if kernels not in ("auto", "reference"):
        raise ValueError(f'`kernels` must be "auto" or "reference". Received: kernels={kernels!r}.')
    for inner in (port, *vars(port).values()):
        if isinstance(inner, RecurrentPort):
            inner.kernels = kernels


def runs_backward(layer: Any) -> bool:
    """True for a recurrent layer that meets a window's last step first, into which nothing is carried unless asked."""
    return isinstance(layer, layers.RNN) and bool(layer.go_backwards)


def is_recurrent(layer: Any) -> bool:
    """True for Keras' recurrent layers and their subclasses."""
    return isinstance(layer, (layers.RNN, layers.Bidirectional))
