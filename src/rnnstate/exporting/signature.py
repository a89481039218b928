"""The inputs and outputs of an exported step model: names, shapes and dtypes.

Names follow the leaves: `lstm/h` is `state.lstm.h` going in and `next_state.lstm.h` coming out, so that both sort alike.
A network with one input and one output has `x` and `y`; one with several has `x.series`, `y.mean` and so on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import tree

from rnnstate.errors import ExportError
from rnnstate.initial.initial import Given
from rnnstate.network.clone import inputs_of
from rnnstate.state.spec import LeafSpec, StateSpec

Size = int | str  # "batch" and "time" are chosen at each call


@dataclass(frozen=True)
class Tensor:
    """One input or output: name, shape with `"batch"` and `"time"` where they are free, and dtype."""

    name: str
    shape: tuple[Size, ...]
    dtype: str

    def sizes(self, batch: Any, time: Any) -> tuple[Any, ...]:
        """Return the shape with values for what is free."""
        return tuple({"batch": batch, "time": time}.get(size, size) for size in self.shape)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Signature:
    """The step model as other runtimes see it.

    Args:
        inputs: The inputs of the network, in its order.
        outputs: Its outputs, in its order.
        leaves: Leaf name to shape and dtype of the state.
        batch: The number of rows, if it is fixed.
        time: The number of steps of each call, if it is fixed.
        observed: The known values that the initial state is computed from, if it is.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    leaves: dict[str, LeafSpec]
    batch: int | None
    time: int | None
    observed: Tensor | None = None

    @property
    def state_inputs(self) -> dict[str, Tensor]:
        """The leaves as inputs."""
        return {name: self._leaf(f"state.{dotted(name)}", leaf) for name, leaf in self.leaves.items()}

    @property
    def state_outputs(self) -> dict[str, Tensor]:
        """The leaves as outputs."""
        return {name: self._leaf(f"next_state.{dotted(name)}", leaf) for name, leaf in self.leaves.items()}

    @property
    def all_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of the network, then the leaves."""
        return (*self.inputs, *self.state_inputs.values())

    @property
    def all_outputs(self) -> tuple[Tensor, ...]:
        """Outputs of the network, then the leaves."""
        return (*self.outputs, *self.state_outputs.values())

    def _leaf(self, name: str, leaf: LeafSpec) -> Tensor:
        return Tensor(name, ("batch" if self.batch is None else self.batch, *leaf.shape), leaf.dtype)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Signature":
        """Return the signature that `to_json` described."""
        tensors = {
            key: tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in fields[key])
            for key in ("inputs", "outputs")
        }
        leaves = {name: LeafSpec(tuple(leaf["shape"]), leaf["dtype"]) for name, leaf in fields["leaves"].items()}
        known = fields["observed"]
        observed = known and Tensor(known["name"], tuple(known["shape"]), known["dtype"])
        return cls(**tensors, leaves=leaves, batch=fields["batch"], time=fields["time"], observed=observed)


def signature_of(model: Any, time: int | None) -> Signature:
    """Return the signature of a model's step.

    Args:
        model: A `StatefulModel`.
        time: Steps of each call, or `None` for any number.

    Raises:
        ExportError: If the network fixes another time, or leaves more open than batch and time; or if it is not known
            how many values the initial state is computed from.
    """
    net, spec = model.net, model.state_spec
    given = tree.flatten(inputs_of(net))
    batch = next((tensor.shape[0] for tensor in given if tensor.shape[0] is not None), None)
    steps = {tensor.shape[1] for tensor in given if len(tensor.shape) > 1}
    own = None if None in steps else given[0].shape[1]
    if own is not None and time not in (None, own):
        raise ExportError(f"`time` must be {own}, the number of steps that the network fixes. Received: time={time}.")
    time = own if time is None else time
    return Signature(
        inputs=_tensors("x", inputs_of(net), batch, time),
        outputs=_tensors("y", _outputs_of(net), batch, time),
        leaves=dict(spec),
        batch=batch,
        time=time,
        observed=_observed(model.start, spec, batch),
    )


def _observed(start: Any, spec: StateSpec, batch: int | None) -> Tensor | None:
    # A state that is given whole is put together from nothing.
    if not start.needs_observed or isinstance(start, Given):
        return None
    if getattr(start, "size", None) is None:
        raise ExportError(
            f"An initial state that is computed must know how many values it takes. Received: `{type(start).__name__}` "
            "before its first use. Train the model, or give `size=`."
        )
    return Tensor("observed", ("batch" if batch is None else batch, start.size), next(iter(spec.values())).dtype)


def dotted(leaf: str) -> str:
    """Return a leaf's name as part of a tensor's name: `encoder/lstm/h` is `encoder.lstm.h`."""
    return leaf.replace("/", ".")


def _outputs_of(net: Any) -> Any:
    return net.outputs[0] if isinstance(net, keras.Sequential) else net.output


def _tensors(root: str, structure: Any, batch: int | None, time: int | None) -> tuple[Tensor, ...]:
    named = ((".".join([root, *map(str, path)]), tensor) for path, tensor in tree.flatten_with_path(structure))
    return tuple(Tensor(name, _shape(name, tensor.shape, batch, time), str(tensor.dtype)) for name, tensor in named)


def _shape(name: str, shape: Any, batch: int | None, time: int | None) -> tuple[Size, ...]:
    first: Size = "batch" if batch is None else batch
    rest = ["time" if size is None and axis == 0 and time is None else size for axis, size in enumerate(shape[1:])]
    if rest and rest[0] is None:
        rest[0] = time
    if None in rest:
        raise ExportError(
            f"Only batch and time may be open in an exported network. Received: `{name}` with shape {tuple(shape)}. "
            "Give the other sizes in `keras.Input`."
        )
    return (first, *rest)
