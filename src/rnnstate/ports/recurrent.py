"""Ports of Keras' recurrent layers: LSTM, GRU, SimpleRNN, ConvLSTM, stacks of cells and custom cells."""

from collections.abc import Mapping
from typing import Any

from keras import layers, ops, tree

from rnnstate.ports.fast_path import repeats_h, run_fast
from rnnstate.ports.protocol import LocalState, Port, both
from rnnstate.ports.scan import scan_cell
from rnnstate.state.spec import LeafSpec
from rnnstate.state.state import Array


class RecurrentPort(Port):
    """Port of every `keras.layers.RNN`: LSTM, GRU, SimpleRNN, ConvLSTM, stacks of cells and custom cells."""

    kernels = "auto"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self._twin = _twin(layer)
        self._specs: dict[str, LeafSpec] = {}
        self._structure: Any = None
        self._flat = False

    def renew(self) -> None:
        """Follow a layer whose attributes have changed."""
        self._twin = _twin(self.layer)

    def spec(self, layer: Any) -> Mapping[str, LeafSpec]:
        if not self._specs:  # computed once, because every call asks for it
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
        attached: Array | None = None,
    ) -> tuple[Array, LocalState]:
        mask = both(attached, mask)
        names = list(self.spec(self.layer))
        # JAX' scan expects the nested lists that the cells return, in the same order.
        given, start = (
            None if leaves is None else self._packed([leaves[name] for name in names]) for leaves in (state, initial)
        )
        in_window = attached is not None and mask is not None
        y, final = self._run(x, given, mask, training, reset, start, in_window)
        if in_window and not self._repeats_h(training, reset):
            y = self._repeated(y, mask, given)
        result = (y, *final) if self.layer.return_state else y
        return result, dict(zip(names, final if self._flat else tree.flatten(final), strict=True))

    def _repeats_h(self, training: bool, reset: Array | None) -> bool:
        return self.kernels == "auto" and repeats_h(self.layer, training, reset)

    def _repeated(self, y: Array, mask: Array, given: Any) -> Array:
        """Return the output, where masked steps at the start of a window repeat the output of an earlier window.

        Keras repeats the last output of the window alone, and zeros where there is none. The last output is the leaf h.
        """
        layer = self.layer
        if layer.zero_output_for_mask or runs_backward(layer) or not _masks_itself(layer):
            return y
        last = (given[-1] if isinstance(layer.cell, layers.StackedRNNCells) else given)[0]
        seen = ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0
        seen, last = (seen, ops.expand_dims(last, 1)) if layer.return_sequences else (seen[:, -1], last)
        flags = ops.reshape(seen, (*ops.shape(seen), *[1] * (len(y.shape) - len(seen.shape))))
        return ops.where(flags, y, ops.cast(last, y.dtype))

    def _packed(self, leaves: list[Array]) -> Any:
        # Packing takes as long as a short window, so flat lists skip it.
        return leaves if self._flat else tree.pack_sequence_as(self._structure, leaves)

    def _run(
        self, x: Array, given: Any, mask: Any, training: bool, reset: Any, start: Any, in_window: bool
    ) -> tuple[Array, Any]:
        """Run the layer in the fastest loop that supports this call. Leaves have the nesting of the layer's cell."""
        if self.kernels == "auto":
            fast = run_fast(self.layer, x, given, mask, training, reset, start, in_window)
            if fast is not None:
                return fast
        if reset is None and (mask is None or _masks_itself(self.layer)):
            y, *final = self._twin(x, initial_state=given, mask=_aligned(mask, given), training=training)
            return y, final
        return scan_cell(self.layer, x, given, mask, training, reset, start)


_CONVOLUTIONS = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
_STOCK_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)


def _masks_itself(layer: Any) -> bool:
    """True if Keras masks this layer correctly on every backend. On JAX, Keras takes the first leaf for the output."""
    cells = layer.cell.cells if isinstance(layer.cell, layers.StackedRNNCells) else [layer.cell]
    return isinstance(layer, _CONVOLUTIONS) or all(type(cell) in _STOCK_CELLS for cell in cells)


def _aligned(mask: Array | None, state: Any) -> Array | None:
    """Give a mask `(batch, time)` the rank of the leaves. Otherwise JAX aligns the batch with an axis of an image."""
    rank = len(tree.flatten(state)[0].shape)
    return mask if mask is None or rank == 2 else ops.reshape(mask, (*ops.shape(mask), *[1] * (rank - 1)))


class BackwardPort(RecurrentPort):
    """Port of a recurrent layer that runs backward, for models with `carry_backward=True`.

    A window starts from the state in which the backward pass over the previous window ended. Nothing crosses a reset. The
    parts before and after a reset run as separate windows, and the part after the last reset gives the final state:

        time            0 1 2 | 3 4 | 5 6     `|` is a reset
        runs as         2 1 0   4 3   6 5
        starts from     initial initial initial   (without any reset: the carried state)
        final state                   of step 5
    """

    def _run(
        self, x: Array, given: Any, mask: Any, training: bool, reset: Any, start: Any, in_window: bool
    ) -> tuple[Array, Any]:
        if reset is None and (mask is None or _masks_itself(self.layer)):
            return super()._run(x, given, mask, training, None, None, in_window)
        x, mask = (None if part is None else ops.flip(part, axis=1) for part in (x, mask))
        if reset is None:
            return scan_cell(self.layer, x, given, mask, training)
        any_reset = ops.any(reset, axis=1, keepdims=True)
        # In flipped time, a step runs after its successor. The carried state is of an earlier episode than the last.
        fresh = ops.flip(ops.concatenate([reset[:, 1:], any_reset], axis=1), axis=1)
        y, _ = scan_cell(self.layer, x, given, mask, training, fresh, start)
        last = ops.flip(_after_last(reset), axis=1)
        valid = last if mask is None else ops.logical_and(mask, last)
        fresh = ops.concatenate([any_reset, ops.zeros_like(fresh[:, 1:])], axis=1)
        return y, scan_cell(self.layer, x, given, valid, training, fresh, start)[1]


def _after_last(reset: Array) -> Array:
    """Return which steps belong to the last episode of each row."""
    count = ops.cumsum(ops.cast(reset, "int32"), axis=1)
    return ops.equal(count, count[:, -1:])


def _twin(layer: Any) -> Any:
    """Return a layer with an explicit state around the cell of `layer`. Both layers share the weights."""
    twin = _like(layer) if type(layer) in _ARGUMENTS else _from_config(layer)
    if twin.cell is not layer.cell:
        twin.cell = layer.cell
    return twin


_ARGUMENTS = {
    layers.SimpleRNN: ("activation",),
    layers.GRU: ("activation", "recurrent_activation", "reset_after"),
    layers.LSTM: ("activation", "recurrent_activation", "unit_forget_bias"),
}


def _like(layer: Any) -> Any:
    """Return a twin of a layer of Keras, without its config.

    Keras imports TensorFlow to write the config of a function, on every backend. TensorFlow then doubles the memory and the
    time of the start. The twin gets the cell of the layer, so the arguments that the cell alone uses are left out.
    """
    shared = ("units", "use_bias", "dropout", "recurrent_dropout", *_ARGUMENTS[type(layer)])
    scan = ("return_sequences", "go_backwards", "unroll", "zero_output_for_mask", "name", "trainable")
    return type(layer)(
        **{name: getattr(layer, name) for name in (*shared, *scan)},
        seed=layer.cell.seed,
        dtype=layer.dtype_policy,
        return_state=True,
    )


def _from_config(layer: Any) -> Any:
    config = {
        **layer.get_config(),
        "return_state": True,
        "stateful": False,
        "activity_regularizer": None,  # the user's layer adds the loss of its activity
    }
    if "cell" in config:
        del config["cell"]
        return type(layer)(layer.cell, **config)
    return type(layer).from_config(config)


def leaf_names(layer: Any) -> list[str]:
    """Return the local names of a recurrent layer's leaves, in the order in which Keras flattens its state.

    LSTM cells have `h` and `c`; GRU and SimpleRNN cells have `h`. The cells of a stack are numbered: `0/h`. A custom cell
    may name its leaves by an attribute `state_names`. Otherwise a single leaf is `h`, and several leaves are numbered.
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


def runs_backward(layer: Any) -> bool:
    """True for a recurrent layer that runs from the last step of a window to the first. It carries only on request."""
    return isinstance(layer, layers.RNN) and bool(layer.go_backwards)


def is_recurrent(layer: Any) -> bool:
    """True for Keras' recurrent layers and their subclasses."""
    return isinstance(layer, (layers.RNN, layers.Bidirectional))
