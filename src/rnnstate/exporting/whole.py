"""Chunks against the whole: a model whose chunks differ from one pass over the whole sequence is not exported.

Both runs use the live model. A file that agrees with the model chunk by chunk would be as wrong as the model is.
"""

import keras
import numpy as np
from keras import tree

from rnnstate.errors import ExportError
from rnnstate.exporting.chunked_run import Arrays
from rnnstate.exporting.programs import Program
from rnnstate.exporting.verification import Runs, live_outputs
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import inputs_of, walk
from rnnstate.ports.recurrent import runs_backward

TOLERANCE = 1e-4  # products of other sizes round differently


def check_whole(model: StatefulModel, program: Program, runs: Runs, live: Runs) -> None:
    """Raise unless the chunks of the first run give the outputs of one pass over the whole sequence.

    Outputs with one value for each chunk have no counterpart in the whole. Neither have backward layers, which start fresh
    in each chunk, and networks with a fixed number of steps.

    Args:
        model: The live model.
        program: Its step.
        runs: The inputs of each chunk of each run.
        live: The outputs of each chunk of each run.

    Raises:
        ExportError: If an output differs, and the model was not made with `time_mixing="allow"`.
    """
    series = _series(model, program)
    if not series or model.time_mixing == "allow" or any(_looks_ahead(layer) for _, layer in walk(model.net)):
        return
    lengths = [chunk[series[0]].shape[1] for chunk in runs[0]]
    rates = dict(zip((tensor.name for tensor in program.outputs), model.strides.outputs, strict=False))
    per_step = [
        name for name in rates if _has_steps(live[0], name, [steps // max(1, rates[name]) for steps in lengths])
    ]
    if not per_step:
        return
    whole = live_outputs(program, [[_joined(runs[0], series)]])[0][0]
    for name in per_step:
        _compare(name, np.concatenate([chunk[name] for chunk in live[0]], axis=1), whole[name])


def _series(model: StatefulModel, program: Program) -> list[str]:
    """Return the names of the inputs that may have any number of steps."""
    symbols = tree.flatten(inputs_of(model.net))
    named = zip(program.inputs, symbols, strict=False)  # the leaves of the state follow the inputs
    return [tensor.name for tensor, symbol in named if len(symbol.shape) > 1 and symbol.shape[1] is None]


def _looks_ahead(layer: object) -> bool:
    return isinstance(layer, keras.layers.Bidirectional) or runs_backward(layer)


def _has_steps(chunks: list[Arrays], name: str, lengths: list[int]) -> bool:
    return all(
        chunk[name].ndim > 2 and chunk[name].shape[1] == steps for chunk, steps in zip(chunks, lengths, strict=True)
    )


def _joined(chunks: list[Arrays], series: list[str]) -> Arrays:
    """Return the inputs of one pass over all chunks. The first chunk has the state."""
    return chunks[0] | {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in series}


def _compare(name: str, chunks: np.ndarray, whole: np.ndarray) -> None:
    one, other = chunks.astype("float64"), whole.astype("float64")
    difference = float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")
    if not difference <= TOLERANCE * max(1.0, float(np.abs(other).max())):
        raise ExportError(
            "Chunks that carry the state must give what one pass over the whole sequence gives, to within "
            f"{TOLERANCE:g}. Received: `{name}`, which differs by {difference:.3g}. Nothing was written. "
            "`rnnstate.audit(model)` names layers that mix time; a port of your own may not carry all that its layer needs. "
            'To export windows that are taken by themselves, use `StatefulModel(net, time_mixing="allow")`.'
        )
