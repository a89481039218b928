"""The inputs and outputs of an exported step model: names, shapes and dtypes.

Names follow the leaves: the input of `lstm/h` is `state.lstm.h`, and its output is `next_state.lstm.h`, so that inputs and
outputs sort alike. A network with one input and one output has `x` and `y`. A network with several has `x.series`, `y.mean`
and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import tree

from rnnstate.errors import ExportError
from rnnstate.initial.given import Given
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import inputs_of
from rnnstate.state.spec import LeafSpec, StateSpec

# "batch" and "time" stand for sizes that the caller chooses at each call. "time/2" is half of "time".
Size = int | str


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Args:
        name: Its name.
        shape: Its shape. A free axis is `"batch"` or `"time"`, or such as `"time/2"` in an output with strides over time.
        dtype: Its dtype.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: str

    def sizes(self, batch: Any, time: Any) -> tuple[Any, ...]:
        """Return the shape with the given sizes for the free axes."""
        return tuple({"batch": batch, "time": time}.get(size, size) for size in self.shape)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Signature:
    """The step model as other runtimes see it.

    Args:
        inputs: The inputs of the network, in the order of the network.
        outputs: The outputs of the network, in the order of the network.
        leaves: The shape and dtype of each leaf of the state, by name.
        batch: The number of rows; `None` if it is free.
        time: The number of steps of each call; `None` if it is free.
        observed: The known values from which the initial state is computed; `None` if it is not.
        strides: Of how many steps each call must be a multiple.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    leaves: dict[str, LeafSpec]
    batch: int | None
    time: int | None
    observed: Tensor | None = None
    strides: int = 1

    @property
    def state_inputs(self) -> dict[str, Tensor]:
        """The leaves as inputs, by leaf name."""
        return {name: self._leaf(f"state.{dotted(name)}", leaf) for name, leaf in self.leaves.items()}

    @property
    def state_outputs(self) -> dict[str, Tensor]:
        """The leaves as outputs, by leaf name."""
        return {name: self._leaf(f"next_state.{dotted(name)}", leaf) for name, leaf in self.leaves.items()}

    @property
    def all_inputs(self) -> tuple[Tensor, ...]:
        """The inputs of the network, then the leaves."""
        return (*self.inputs, *self.state_inputs.values())

    @property
    def all_outputs(self) -> tuple[Tensor, ...]:
        """The outputs of the network, then the leaves."""
        return (*self.outputs, *self.state_outputs.values())

    def _leaf(self, name: str, leaf: LeafSpec) -> Tensor:
        return Tensor(name, ("batch" if self.batch is None else self.batch, *leaf.shape), leaf.dtype)

    def to_json(self) -> dict[str, Any]:
        """Return the signature in types that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Signature":
        """Return the signature from which `to_json` made the fields."""
        tensors = {
            key: tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in fields[key])
            for key in ("inputs", "outputs")
        }
        leaves = {name: LeafSpec(tuple(leaf["shape"]), leaf["dtype"]) for name, leaf in fields["leaves"].items()}
        known = fields["observed"]
        observed = known and Tensor(known["name"], tuple(known["shape"]), known["dtype"])
        return cls(
            **tensors,
            leaves=leaves,
            batch=fields["batch"],
            time=fields["time"],
            observed=observed,
            strides=fields["strides"],
        )


def signature_of(model: StatefulModel, time: int | None) -> Signature:
    """Return the signature of a model's step.

    Args:
        model: A `StatefulModel`.
        time: The number of steps of each call, or `None` for any number.

    Raises:
        ExportError: If the network fixes another time, or has strides of which `time` is no multiple, if an axis other than
            batch and time is free, or if the number of observed values is not known yet.
    """
    net, spec = model.net, model.state_spec
    given = tree.flatten(inputs_of(net))
    batch = next((tensor.shape[0] for tensor in given if tensor.shape[0] is not None), None)
    steps = {tensor.shape[1] for tensor in given if len(tensor.shape) > 1}
    own = None if None in steps else given[0].shape[1]
    if own is not None and time not in (None, own):
        raise ExportError(f"`time` must be {own}, the number of steps that the network fixes. Received: time={time}.")
    time, strides = own if time is None else time, model.strides
    if time is not None and time % strides.total:
        raise ExportError(
            f"`time` must be a multiple of {strides.total}, because the network has {strides.described}. Received: "
            f"time={time}."
        )
    rates = [max(1, rate) for rate in strides.outputs]
    return Signature(
        inputs=_tensors("x", inputs_of(net), batch, time, [1] * len(given)),
        outputs=_tensors("y", _outputs_of(net), batch, time, rates),
        strides=strides.total,
        leaves=dict(spec),
        batch=batch,
        time=time,
        observed=_observed(model.start, spec, batch),
    )


def _observed(start: Any, spec: StateSpec, batch: int | None) -> Tensor | None:
    # `Given` takes a whole state from the caller: there is nothing to compute.
    if not start.needs_observed or isinstance(start, Given):
        return None
    if getattr(start, "size", None) is None:
        raise ExportError(
            f"The initial state must know how many values it takes. Received: `{type(start).__name__}` "
            "before its first use. Train the model, or give `size=`."
        )
    return Tensor("observed", ("batch" if batch is None else batch, start.size), next(iter(spec.values())).dtype)


def dotted(leaf: str) -> str:
    """Return the name of a leaf as part of the name of a tensor: `encoder/lstm/h` is `encoder.lstm.h`."""
    return leaf.replace("/", ".")


def _outputs_of(net: Any) -> Any:
    return net.outputs[0] if isinstance(net, keras.Sequential) else net.output


def _tensors(
    root: str, structure: Any, batch: int | None, time: int | None, rates: Sequence[int]
) -> tuple[Tensor, ...]:
    named = ((".".join([root, *map(str, path)]), tensor) for path, tensor in tree.flatten_with_path(structure))
    return tuple(
        Tensor(name, _shape(name, tensor.shape, batch, time, rate), str(tensor.dtype))
        for (name, tensor), rate in zip(named, rates, strict=True)
    )


def _shape(name: str, shape: Any, batch: int | None, time: int | None, rate: int) -> tuple[Size, ...]:
    first: Size = "batch" if batch is None else batch
    free = "time" if rate == 1 else f"time/{rate}"
    rest = [free if size is None and axis == 0 and time is None else size for axis, size in enumerate(shape[1:])]
    if rest and rest[0] is None and time is not None:
        rest[0] = time // rate
    if None in rest:
        raise ExportError(
            f"Only batch and time may be open in an exported network. Received: `{name}` with shape {tuple(shape)}. "
            "Give the other sizes in `keras.Input`."
        )
    return (first, *rest)
