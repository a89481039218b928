"""The training step is traced once: what it would make on its first run is there before."""

import keras
import numpy as np

import nets
import rnnstate as rs

BATCH, STEPS, FEATURES = 3, 10, 2


class Counted(rs.StatefulModel):
    """A model that counts how often Python runs its training step."""

    steps = 0

    def train_step(self, *args, **kwargs):
        """Count the call, and train."""
        self.steps += 1
        return super().train_step(*args, **kwargs)


def windows(names):
    """Return windows of random data, with targets for each of the named outputs."""
    x = nets.values(BATCH, STEPS, FEATURES, seed=1)
    y = {name: nets.values(BATCH, STEPS, 1, seed=2) for name in names}
    return rs.Windows(x, y, length=5, batch_size=BATCH)


def compiled(names, metrics):
    """Return a compiled model with the named outputs. Its metrics and its optimizer have no variables yet."""
    x = keras.Input((None, FEATURES))
    h = keras.layers.GRU(3, return_sequences=True, dropout=0.1)(x)
    net = keras.Model(x, {name: keras.layers.Dense(1, name=name)(h) for name in names})
    model = Counted(net)
    model.compile("adam", "mse", metrics={name: list(metrics) for name in names})
    return model


# Python runs a step of PyTorch each time, and there are two windows in each of two epochs.
RUNS = {"jax": 1, "tensorflow": 1, "torch": 4}


def test_fit_traces_its_step_once(backend):
    """With metrics and several outputs the compiled step is traced once, and a second `fit` uses it again."""
    model = compiled("ab", ("mae",))
    model.fit(windows("ab"), epochs=2, verbose=0)
    assert model.steps == RUNS[backend]
    model.fit(windows("ab"), epochs=1, verbose=0)
    assert model.steps == RUNS[backend] + (2 if backend == "torch" else 0)


def test_training_on_batches_traces_its_step_once(backend):
    """`train_on_batch` traces its step once, too."""
    model, data = compiled("a", ("mae",)), windows("a")
    for _ in range(2):
        for index in range(len(data)):
            model.train_on_batch(*data[index])
    assert model.steps == RUNS[backend]


def test_building_changes_no_weight_and_no_metric():
    """What is made before the first step trains as what Keras makes during it."""
    results = []
    for build in (False, True):
        keras.utils.set_random_seed(5)
        model = compiled("a", ("mae",))
        if build:
            rs.training.building.build_all(model, (windows("a")[0]))
        history = model.fit(windows("a"), epochs=2, verbose=0).history
        results.append((history, [nets.host(value) for value in model.get_weights()]))
    assert results[0][0] == results[1][0]
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_array_equal(one, other)
