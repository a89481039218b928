"""What a file holds: a function of named arrays. The step is one; the initial state is another, where it is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops, tree

from rnnstate.exporting.chunked_run import Step
from rnnstate.exporting.signature import Signature, Tensor
from rnnstate.network.clone import inputs_of


@dataclass(frozen=True)
class Program:
    """A function of named arrays.

    Args:
        name: `"step"` or `"initial"`.
        call: The function, with the operations of Keras.
        inputs: What it takes.
        outputs: What it gives.
        links: Name of each leaf coming out to its name going in.
    """

    name: str
    call: Step
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    links: Mapping[str, str]


def programs_of(model: Any, signature: Signature) -> tuple[Program, ...]:
    """Return the step of a model and, where the initial state is computed from observed values, that too."""
    step = Program(
        "step",
        lambda arrays: call_step(model, signature, arrays),
        signature.all_inputs,
        signature.all_outputs,
        links_of(signature),
    )
    if signature.observed is None:
        return (step,)
    leaves = tuple(signature.state_inputs.values())
    return step, Program(
        "initial", lambda arrays: call_initial(model, signature, arrays), (signature.observed,), leaves, {}
    )


def call_step(model: Any, signature: Signature, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Run `model.step` on named inputs and return its named outputs: the function that every format holds."""
    x = tree.pack_sequence_as(inputs_of(model.net), [arrays[tensor.name] for tensor in signature.inputs])
    state = {name: arrays[tensor.name] for name, tensor in signature.state_inputs.items()}
    y, state = model.step(x, state)
    outputs = {tensor.name: value for tensor, value in zip(signature.outputs, tree.flatten(y), strict=True)}
    return outputs | {tensor.name: state[name] for name, tensor in signature.state_outputs.items()}


def call_initial(model: Any, signature: Signature, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial state, under the names that `call_step` takes it by."""
    (observed,) = arrays.values()
    state = model.start.state(ops.shape(observed)[0], observed)
    return {tensor.name: state[name] for name, tensor in signature.state_inputs.items()}


def links_of(signature: Signature) -> dict[str, str]:
    """Return the name of each leaf coming out, with its name going in."""
    going_in, coming_out = signature.state_inputs, signature.state_outputs
    return {coming_out[name].name: going_in[name].name for name in signature.leaves}
