"""The functions that an export holds, from named arrays to named arrays.

The step is one program. If the initial state is computed from observed values, that computation is a second program.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from keras import ops, tree

from rnnstate.exporting.chunked_run import Step
from rnnstate.exporting.signature import Signature, Tensor
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import inputs_of


@dataclass(frozen=True)
class Program:
    """A function of named arrays.

    Args:
        name: `"step"` or `"initial"`.
        call: The function, written with `keras.ops`.
        inputs: Its inputs.
        outputs: Its outputs.
        links: The output name of each leaf, mapped to its input name.
        strides: Of how many steps each call must be a multiple.
    """

    name: str
    call: Step
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    links: Mapping[str, str]
    strides: int = 1


class Writer(Protocol):
    """A module that writes the files of one backend: `on_tensorflow` or `on_jax`."""

    def write(self, form: str, path: Path, model: StatefulModel, program: Program) -> Step:
        """Write the file of a program, and return a function that runs the file in its runtime."""


def programs_of(model: StatefulModel, signature: Signature) -> tuple[Program, ...]:
    """Return the step of a model and, if observed values determine the initial state, the program that computes it."""
    step = Program(
        "step",
        lambda arrays: call_step(model, signature, arrays),
        signature.all_inputs,
        signature.all_outputs,
        links_of(signature),
        signature.strides,
    )
    if signature.observed is None:
        return (step,)
    leaves = tuple(signature.state_inputs.values())
    return step, Program(
        "initial", lambda arrays: call_initial(model, signature, arrays), (signature.observed,), leaves, {}
    )


def call_step(model: StatefulModel, signature: Signature, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Run `model.step` on named inputs and return its named outputs. Every format holds this function."""
    x = tree.pack_sequence_as(inputs_of(model.net), [arrays[tensor.name] for tensor in signature.inputs])
    state = {name: arrays[tensor.name] for name, tensor in signature.state_inputs.items()}
    y, final = model.step(x, state)
    outputs = {tensor.name: value for tensor, value in zip(signature.outputs, tree.flatten(y), strict=True)}
    return outputs | {tensor.name: final[name] for name, tensor in signature.state_outputs.items()}


def call_initial(model: StatefulModel, signature: Signature, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial state, under the names by which `call_step` takes it."""
    (observed,) = arrays.values()
    state = model.start.state(ops.shape(observed)[0], observed)
    return {tensor.name: state[name] for name, tensor in signature.state_inputs.items()}


def links_of(signature: Signature) -> dict[str, str]:
    """Return the output name of each leaf, mapped to its input name."""
    going_in, coming_out = signature.state_inputs, signature.state_outputs
    return {coming_out[name].name: going_in[name].name for name in signature.leaves}
