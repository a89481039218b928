"""Law: nothing around the step is wasted. Counted, not timed: compilations, copies, loads ahead, and transfers."""

import threading
import tracemalloc
import traceback

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from nets import difference

LENGTH, ROWS = 5, 3
WAIT = 30.0  # seconds after which a test fails instead of hanging


@keras.saving.register_keras_serializable("tests")
class Probe(keras.layers.Layer):
    """Passes on what it gets, and counts its calls in Python: one for each trace, or each step where nothing is traced."""

    calls = 0

    def call(self, x):
        """Count."""
        type(self).calls += 1
        return x


def build():
    """Return a network with a probe."""
    layers = [keras.layers.LSTM(5, return_sequences=True, name="lstm"), Probe(), keras.layers.Dense(1)]
    return keras.Sequential([nets.series_input(), *layers])


def model_of(**kwargs):
    """Return a compiled model with a probe."""
    model = rs.StatefulModel(nets.randomized(build()))
    model.compile("adam", "mse", metrics=["mae"], **kwargs)
    return model


def windows(lengths, seed=0, **kwargs):
    """Return windows of sequences of these lengths, with targets."""
    x, y = nets.series(lengths, seed=seed), nets.series(lengths, features=1, seed=seed + 50)
    return rs.Windows(x, y, length=LENGTH, batch_size=ROWS, **kwargs)


class Compilations:
    """Counts what is traced, and on JAX what its compiler compiles, while it is active."""

    def __enter__(self):
        self._before, self._compiled = Probe.calls, []
        if keras.config.backend() == "jax":
            import jax  # noqa: TID251

            self._active = True
            jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def _listen(self, event, *_, **__):
        if self._active and event == "/jax/core/compile/backend_compile_duration":
            self._compiled.append(event)

    def __exit__(self, *_):
        self._active = False

    @property
    def traces(self):
        """How often the network was run in Python."""
        return Probe.calls - self._before

    @property
    def compiled(self):
        """How many programs were compiled, where that can be counted."""
        return len(self._compiled)


def steps_in_python(count, backend):
    """Return how often the network runs in Python in `count` steps that compile nothing: always on PyTorch."""
    return count if backend == "torch" else 0


OTHERS = {
    "as before": [17, 17, 17, 17],
    "other lengths": [23, 9, 31, 6],
    "a partial batch": [17, 17, 17, 17, 17],
    "fewer sequences": [13, 22, 17],
    "more sequences, as many rows in the bank": [9] * 7,
}


@pytest.mark.parametrize("lengths", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_nothing_compiles_anew_for_other_data(lengths, method, backend):
    """After one run, other lengths, numbers of sequences and partial batches run what is compiled already."""
    model = model_of()
    model.states.write([f"k{i}" for i in range(7)], {"lstm/h": np.zeros((7, 5), "float32")})  # makes room for all
    run = getattr(model, method)
    for _ in range(2):
        run(windows([17, 17, 17, 17, 8, 8, 8]), verbose=0)
    other = windows(lengths, seed=3)
    with Compilations() as seen:
        run(other, verbose=0)
    assert seen.traces == steps_in_python(len(other), backend)
    assert seen.compiled == 0
