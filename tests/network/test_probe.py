"""A network that cannot be run on symbols is refused with the layer that failed and its own reason."""

import keras
import pytest
from keras import layers

import nets
import rnnstate as rs


class Failing(layers.Layer):
    """Fails with a message of its own, for a reason that it was told."""

    def compute_output_shape(self, shape):
        """Return it."""
        return shape

    def call(self, x):
        """Raise."""
        try:
            {}["scale"]
        except KeyError:
            raise RuntimeError("No scale is set.\nSet one.")  # noqa: B904


@pytest.fixture(params=[True, False], ids=["filtered", "unfiltered"])
def _tracebacks(request):
    """Have Keras filter tracebacks, by which it also rebuilds errors, or not."""
    if not request.param:
        keras.config.disable_traceback_filtering()
    yield
    keras.config.enable_traceback_filtering()


@pytest.mark.usefixtures("_tracebacks")
def test_a_failing_layer_is_named():
    """A layer that fails is named, with the first line of what it said, not with what it had handled before."""
    net = keras.Sequential([nets.series_input(), layers.LSTM(3, return_sequences=True), Failing(name="scaling")])
    with pytest.raises(
        rs.UnsupportedModelError,
        match=r"^Every layer must.*Layer `scaling` \(Failing\) did not. Received: RuntimeError: No scale is set. What",
    ):
        rs.StatefulModel(net)


@pytest.mark.usefixtures("_tracebacks")
def test_errors_of_this_library_are_raised_as_they_are():
    """An error that is found inside of the network reaches the user without Keras' words around it."""
    x = nets.series_input()
    _, h, c = layers.LSTM(3, return_state=True)(x)
    net = keras.Model(x, layers.LSTM(3, name="decoder")(x, initial_state=[h, c]))
    with pytest.raises(rs.UnsupportedModelError, match=r"^Layer `decoder` must take its state.*`StatefulModel.step`.$"):
        rs.StatefulModel(net)
