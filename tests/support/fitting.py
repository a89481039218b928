"""Windows with random targets, and models fitted to them."""

import keras

import nets
import rnnstate as rs

LENGTHS = (17, 11, 5, 13)
KERAS = tuple(int(part) for part in keras.version().split(".")[:2])


def refuses_many_steps(backend):
    """Return whether this release of Keras refuses several steps per execution on a backend."""
    return backend == "torch" and KERAS < (3, 16)


def targets_of(data, outputs, seed=70):
    """Return random targets per step for each sequence."""
    return {key: nets.values(len(x), outputs, seed=seed + i) for i, (key, x) in enumerate(data.items())}


def windows_of(outputs, lengths=LENGTHS, length=5, batch_size=3, **kwargs):
    """Return windows of random sequences with random targets."""
    data = nets.series(lengths)
    return rs.Windows(data, targets_of(data, outputs), length=length, batch_size=batch_size, **kwargs)


def weights_of(model):
    """Return all trainable weights by place."""
    return {str(i): nets.host(variable) for i, variable in enumerate(model.trainable_variables)}


def fitted(build, windows, epochs=2, optimizer=None, **kwargs):
    """Return a new model after `fit`, with its history."""
    model = nets.make(build)
    fit = {name: kwargs.pop(name) for name in ("callbacks", "validation_data") if name in kwargs}
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", **kwargs)
    return model, model.fit(windows, epochs=epochs, verbose=0, **fit)
