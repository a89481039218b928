"""On PyTorch a compiled step gives nothing but what the network gives; a network that cannot be compiled runs as it is."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from nets import difference, host
from serving import serving


def around(layer):
    """Return a model with a layer after its memory."""
    odd = layers.SimpleRNN(3, use_bias=False, return_sequences=True, name="rnn")
    net = keras.Sequential([nets.series_input(), odd, layer])
    return rs.StatefulModel(nets.randomized(net), time_mixing="allow")  # these layers depend on the whole window


class Layer(layers.Layer):
    """Passes on the shape of its input."""

    def compute_output_shape(self, shape):
        """Return it."""
        return shape


class ByValue(Layer):
    """Decides by what it is given."""

    def call(self, x):
        """Turn round what is negative."""
        return x if float(ops.sum(x)) > 0 else -x


class ByHost(Layer):
    """Computes outside the backend."""

    def call(self, x):
        """Return the sign of the mean, from NumPy."""
        return x * 0 + float(np.sign(np.mean(ops.convert_to_numpy(x))))


def signs(layer):
    """Return the outputs for an input and its opposite, of which the first is compiled, if any is."""
    model = around(layer)
    x, state = nets.values(2, 1, nets.FEATURES), model.initial_state(2)
    with serving():
        return [host(model.step(sign * x, state)[0]) for sign in (1, 1, -1)]


@pytest.mark.parametrize("layer", [ByValue, ByHost])
def test_what_depends_on_values_is_not_fixed(layer, backend):
    """A network that asks for values runs as it is on PyTorch; the others cannot trace it, and say so."""
    if backend != "torch":
        with pytest.raises(
            rs.UnsupportedModelError, match=rf"Layer `\w+` \({layer.__name__}\) did not. Received: \w+Error"
        ):
            signs(layer())
        return
    one, again, opposite = signs(layer())
    assert difference(one, again) == 0.0
    assert difference(one, opposite if layer is ByValue else -opposite) < 1e-6
    assert np.abs(one).max() > 0.1


class Drawing(Layer):
    """Draws a number on the host."""

    rng = np.random.default_rng(0)

    def call(self, x):
        """Add it."""
        return x + self.rng.random()


class DrawingByTorch(Layer):
    """Draws from PyTorch's own generator."""

    def call(self, x):
        """Add noise."""
        import torch  # noqa: TID251

        return x + torch.rand_like(x)


class Writing(Layer):
    """Writes into its weight behind Keras' back."""

    def build(self, shape):
        """Make the weight."""
        self.total = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        """Count."""
        return x + (self.total.value.add_(1.0) if str(x.device) != "meta" else 1.0)


class Holding(Layer):
    """Holds an array that is no variable."""

    def call(self, x):
        """Add it."""
        return x + (self.held if str(x.device) != "meta" else 0.0)


def outputs_of(layer, prepare=lambda call: None):
    """Return the outputs of equal steps."""
    model = around(layer)
    x, state = nets.values(2, 1, nets.FEATURES), model.initial_state(2)
    outputs = []
    for call in range(4):
        prepare(call)
        with serving():
            outputs.append(host(model.step(x, state)[0]))
    return outputs


def test_what_has_an_effect_runs_as_it_is(backend):
    """Draws and writes that a trace would fix or lose stay those of the network, and so do arrays that a layer holds.

    On the other backends what Python draws is drawn once, as the documents say.
    """
    if backend != "torch":
        outputs = outputs_of(Drawing())
        assert all(difference(one, other) == 0.0 for one, other in pairwise(outputs))
        return
    for layer in (Drawing, DrawingByTorch):
        outputs = outputs_of(layer())
        assert min(difference(one, other) for one, other in pairwise(outputs)) > 1e-3
    holding = Holding()
    for outputs in (
        outputs_of(Writing()),
        outputs_of(holding, lambda call: setattr(holding, "held", ops.convert_to_tensor(float(call)))),
    ):
        assert all(abs(difference(outputs[0], outputs[call]) - call) < 1e-6 for call in range(4))


def test_other_modes_are_left_alone(backend):
    """Under autocast a step computes as the network does there; tensors made in inference mode are as good as others."""
    model = nets.make(nets.lstm)
    x, state = nets.values(2, 1, nets.FEATURES), model.initial_state(2)
    plain = host(model.step(x, model.step(x, state)[1], training=True)[0])
    with inference():
        for _ in range(2):
            y, _ = model.step(x, model.step(x, state)[1])
            assert difference(y, plain) < 1e-6
    if backend == "torch":
        import torch  # noqa: TID251

        with torch.autocast("cpu", torch.bfloat16):
            plain = model.step(x, state, training=True)[0].detach()
            with torch.no_grad():
                assert difference(model.step(x, state)[0].float(), plain.float()) == 0.0


def inference():
    """Make tensors that no gradient can ever be taken of, on PyTorch."""
    if keras.config.backend() != "torch":
        return serving()
    import torch  # noqa: TID251

    return torch.inference_mode()
