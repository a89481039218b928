"""The network of a RUN with its scaling inside. Inputs and outputs have the units of the data."""

from typing import Any

from rnnstate.forecasting.run_folder import Run


def with_scaling(run: Run) -> Any:
    """Return a `StatefulModel` whose first and last layers scale. It has the leaves and the weights of the RUN."""
    import keras

    from rnnstate.model.stateful_model import StatefulModel

    mean, variance = run.scaling.mean, run.scaling.std**2
    targets = len(run.settings.targets)
    net = run.model.net
    inputs = keras.Input(net.input_shape[1:], name="inputs")
    y = keras.layers.Normalization(mean=mean, variance=variance, name="scaling")(inputs)
    for layer in net.layers[1:]:
        y = layer(y)
    last = keras.layers.Normalization(mean=mean[:targets], variance=variance[:targets], invert=True, name="unscaling")
    return StatefulModel(keras.Model(inputs, last(y), name=net.name))


def about_columns(run: Run, included: bool) -> dict[str, Any]:
    """Return the facts that a program needs to call a step of the RUN: columns, horizon and scaling."""
    return {
        "inputs": list(run.settings.columns.inputs),
        "targets": list(run.settings.targets),
        "horizon": run.settings.horizon,
        "scaling": {"included": included, "mean": run.scaling.mean.tolist(), "std": run.scaling.std.tolist()},
    }
