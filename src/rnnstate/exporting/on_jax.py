"""StableHLO: `jax.export` lowers the step function with symbolic batch and time, for every kind of device at once."""

from pathlib import Path

import jax
from jax import export

from rnnstate.exporting.chunked_run import Step
from rnnstate.exporting.programs import Program
from rnnstate.model.stateful_model import StatefulModel

PLATFORMS = ("cpu", "cuda", "tpu")


def write(form: str, path: Path, model: StatefulModel, program: Program) -> Step:
    """Write a file, and return a function that runs it in its runtime."""
    batch, time = export.symbolic_shape("batch, time" if program.strides == 1 else f"batch, {program.strides}*groups")
    inputs = {t.name: jax.ShapeDtypeStruct(t.sizes(batch, time), t.dtype) for t in program.inputs}
    exported = export.export(jax.jit(program.call), platforms=PLATFORMS)(inputs)
    path.write_bytes(exported.serialize())
    return _runner(path)


def compiled(step: Step) -> Step:
    """Return the same function; JAX compiles it once for each shape."""
    function: Step = jax.jit(step)
    return function


def _runner(path: Path) -> Step:
    call = export.deserialize(bytearray(path.read_bytes())).call
    return lambda inputs: dict(call(inputs))
