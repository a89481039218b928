"""Verification: the exported file runs in its runtime, and must give the outputs of the live model."""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import ExportError
from rnnstate.exporting.chunked_run import Arrays, Step, run_chunks
from rnnstate.exporting.programs import Program
from rnnstate.exporting.signature import Signature, Tensor

TOLERANCE = 1e-5
# A loop that was unrolled at one length is wrong at another, so the chunks have two lengths. The runs have two batch sizes.
CHUNKS, BATCHES = (1, 4, 1), (1, 3)
Runs = list[list[Arrays]]


def batch_sizes(signature: Signature) -> tuple[int, ...]:
    """Return the batch size of each run."""
    return BATCHES if signature.batch is None else (signature.batch, signature.batch)


def chunk_lengths(signature: Signature) -> tuple[int, ...]:
    """Return the lengths of the chunks of each run, one after another."""
    return tuple(signature.strides * n for n in CHUNKS) if signature.time is None else (signature.time,) * 3


def runs_of(program: Program, signature: Signature, initial: Arrays | None) -> Runs:
    """Return random inputs for one program of a model."""
    if program.name == "step":
        return make_runs(signature, initial)
    rng = np.random.default_rng(1)
    return [
        [{tensor.name: _random(rng, tensor, batch, None) for tensor in program.inputs}]
        for batch in batch_sizes(signature)
    ]


def make_runs(signature: Signature, initial: Arrays | None, seed: int = 0) -> Runs:
    """Return random inputs for the step.

    The first run starts from the initial state, if it is a constant. Every other run starts from a random state.

    Args:
        signature: Inputs and outputs of the step model.
        initial: One row of the initial state, leaves `(1, *shape)`; `None` if it is not a constant.
        seed: The seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    runs: Runs = []
    for batch in batch_sizes(signature):
        chunks = [
            {tensor.name: _random(rng, tensor, batch, time) for tensor in signature.inputs}
            for time in chunk_lengths(signature)
        ]
        for name, tensor in signature.state_inputs.items():
            value = _random(rng, tensor, batch, None)
            if initial is not None and not runs:  # the first run; a row (1, *shape) becomes (batch, *shape)
                value = np.repeat(initial[name], batch, axis=0)
            chunks[0][tensor.name] = value  # later chunks take the state from the chunk before
        runs.append(chunks)
    return runs


def live_outputs(program: Program, runs: Runs) -> Runs:
    """Return the outputs of the live model for the same runs."""
    live = _compiled(program.call)

    def step(inputs: Arrays) -> dict[str, Any]:
        outputs = live(inputs)
        return {name: ops.convert_to_numpy(ops.stop_gradient(value)) for name, value in outputs.items()}

    return run_chunks(step, runs, program.links)


def _compiled(step: Step) -> Step:
    """Compile the step on JAX, where every call that is not compiled would compile its loops again."""
    if keras.config.backend() != "jax":
        return step
    from rnnstate.exporting import on_jax

    compiled: Step = on_jax.compiled(step)
    return compiled


def largest_difference(live: Runs, file: Runs) -> float:
    """Return the largest difference between an output of the file and the same output of the live model.

    If the largest value of an output is above 1, the tolerance grows in proportion: float32 has seven digits.

    Args:
        live: The outputs of the live model.
        file: The outputs of the file for the same inputs.

    Raises:
        ExportError: If an output differs by more than the tolerance. The message names the output, chunk and run.
    """
    worst, beyond, where = 0.0, 0.0, ""
    for ours, theirs in zip(live, file, strict=True):
        for chunk, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            for name, value in one.items():
                distance, share = _distance(value, other.get(name))
                worst = max(worst, distance)
                if share > max(1.0, beyond):
                    beyond, where = share, f"`{name}` of chunk {chunk + 1} of {len(ours)} (batch={len(value)})"
    if where:
        raise ExportError(
            f"The file must give what the model gives, to within {TOLERANCE:g}. Received: {where}, which differs by "
            f"{beyond * TOLERANCE:.3g}. The file was deleted. Try another format."
        )
    return worst


def _distance(ours: np.ndarray, theirs: np.ndarray | None) -> tuple[float, float]:
    """Return the difference of two outputs, and the difference as a multiple of the tolerance."""
    if theirs is None or theirs.shape != ours.shape:
        return float("inf"), float("inf")
    if not ours.size:
        return 0.0, 0.0
    one, other = ours.astype("float64"), theirs.astype("float64")
    distance = float(np.abs(one - other).max())
    share = distance / (TOLERANCE * max(1.0, float(np.abs(one).max())))
    return (distance, share) if np.isfinite(share) else (float("inf"), float("inf"))


def _random(rng: np.random.Generator, tensor: Tensor, batch: int, time: int | None) -> np.ndarray:
    shape = tensor.sizes(batch, time)
    if tensor.dtype.startswith(("int", "uint", "bool")):
        return np.asarray(rng.integers(0, 2, size=shape), dtype=tensor.dtype)
    dtype = "float32" if tensor.dtype == "bfloat16" else tensor.dtype  # NumPy has no bfloat16
    return rng.uniform(-1, 1, size=shape).astype(dtype)
