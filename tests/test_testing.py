"""The public assertions: each passes on a right model, and rejects a wrong one."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import policies
import rnnstate as rs
from nets import host
from rnnstate import testing

FLAGS = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]]) > 0


class Memory(keras.Layer):
    """A custom layer that sums its input over time. The ports below remember the sum, most of them wrongly."""

    def call(self, x):
        return ops.cumsum(x, axis=1)


class Right(rs.Port):
    """Remembers the sum so far."""

    def spec(self, layer):
        return {"sum": rs.LeafSpec((1,))}

    def call(self, x, state, mask=None, training=False):
        x = x if mask is None else ops.where(mask[..., None], x, 0.0)
        y = self.layer(x) + state["sum"][:, None]
        return y, {"sum": y[:, -1]}


class Forgets(Right):
    """Claims to remember, but starts each window from zero."""

    def call(self, x, state, mask=None, training=False):
        y = self.layer(x)
        return y, {"sum": y[:, -1]}


class OneStepShort(Right):
    """Keeps the state before the last step."""

    def call(self, x, state, mask=None, training=False):
        y, _ = super().call(x, state, mask, training)
        return y, {"sum": y[:, -1] - x[:, -1]}


class Leaks(Right):
    """Mixes the rows of a batch."""

    def call(self, x, state, mask=None, training=False):
        y, final = super().call(x, state, mask, training)
        return y, {"sum": ops.zeros_like(final["sum"]) + ops.mean(final["sum"], axis=0, keepdims=True)}


class IgnoresMasks(Right):
    """Counts padding, which is zero, as one more step."""

    def call(self, x, state, mask=None, training=False):
        y = self.layer(x) + state["sum"][:, None]
        return y, {"sum": y[:, -1] + (0.0 if mask is None else 1.0)}


class RunsAhead(Right):
    """Counts its calls in a variable."""

    def call(self, x, state, mask=None, training=False):
        y, final = super().call(x, state, mask, training)
        self.layer.calls.assign_add(1.0)
        return y + self.layer.calls, final


class ResetsLate(Right):
    """Resets rows after the flagged step, not before it."""

    def call(self, x, state, mask=None, training=False, reset=None, initial=None):
        if reset is None:
            return super().call(x, state, mask, training)
        outputs = []
        for t in range(x.shape[1]):
            y, state = super().call(x[:, t : t + 1], state, None, training)
            state = {"sum": ops.where(reset[:, t, None], initial["sum"], state["sum"])}
            outputs.append(y)
        return ops.concatenate(outputs, axis=1), state


class ResetsToZero(Right):
    """Resets rows to zero, not to their initial state."""

    def initial(self, batch_size):
        return {"sum": ops.full((batch_size, 1), 2.0)}

    def call(self, x, state, mask=None, training=False, reset=None, initial=None):
        if reset is None:
            return super().call(x, state, mask, training)
        outputs = []
        for t in range(x.shape[1]):
            state = {"sum": ops.where(reset[:, t, None], 0.0, state["sum"])}
            y, state = super().call(x[:, t : t + 1], state, None, training)
            outputs.append(y)
        return ops.concatenate(outputs, axis=1), state


class CountedMemory(Memory):
    """A layer with a variable that a port may misuse."""

    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), trainable=False, name="calls")


def with_port(port, layer=Memory):
    """Return a model of one custom layer with a given port."""
    kind = type(f"{layer.__name__}{port.__name__}", (layer,), {})
    rs.register_port(kind, port)
    return rs.StatefulModel(keras.Sequential([keras.Input((None, 1)), kind(name="memory")]))


def x_of(*shape):
    """Return inputs between 1 and 2, so that every step matters."""
    return nets.values(*shape, seed=2) / 2 + 1.5


SERIES = {"a": x_of(7, 1), "b": x_of(3, 1), "c": x_of(10, 1)}

RIGHT = {
    "a port": lambda: with_port(Right),
    "a counting cell": lambda: policies.counting(start=3),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_models_pass(name):
    """A right port and the counting cell hold every law."""
    model = RIGHT[name]()
    testing.assert_windows_equal_whole(model, x_of(3, 5, 1), atol=1e-5)
    testing.assert_isolated(model, SERIES, atol=1e-5)
    testing.assert_explicit(model, x_of(3, 5, 1))
    testing.assert_reset_first(model, x_of(3, 5, 1), FLAGS, atol=1e-5)
    testing.assert_nothing_silent(model)


def test_a_recurrent_layer_passes():
    """A trained GRU holds every law."""
    model = nets.make(nets.gru)
    x, y = policies.data_of(model, (7, 4))
    policies.trained(model, rs.Windows(x, y, length=3, batch_size=2))
    batch = nets.values(3, 5, 2)
    testing.assert_windows_equal_whole(model, batch, lengths=(2,))
    testing.assert_explicit(model, batch)
    testing.assert_reset_first(model, batch, FLAGS)
    testing.assert_nothing_silent(model)


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (Forgets, "outputs of windows of 1 must agree within"),
        (OneStepShort, "outputs of windows of 1 must agree within"),
    ],
)
def test_windows_equal_whole_rejects(port, text):
    """A port that forgets and a port that keeps the state of the previous step are found out."""
    with pytest.raises(AssertionError, match=text):
        testing.assert_windows_equal_whole(with_port(port), x_of(3, 5, 1), atol=1e-5)


def test_windows_equal_whole_rejects_what_remembers_nothing():
    """If carrying makes no difference, the law proves nothing, and the control fails. The control can be turned off."""
    net = keras.Sequential([nets.series_input(), layers.GRU(3, return_sequences=True), layers.Dense(1)])
    model = rs.StatefulModel(net)
    for variable in net.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    with pytest.raises(AssertionError, match=r"differ by more than 0.01: this model remembers nothing"):
        testing.assert_windows_equal_whole(model, nets.values(3, 5, 2), lengths=(2,))
    testing.assert_windows_equal_whole(model, nets.values(3, 5, 2), lengths=(2,), control=None)
    with pytest.raises(ValueError, match="must have one below the 5 steps of `x`, or nothing is carried"):
        testing.assert_windows_equal_whole(model, nets.values(3, 5, 2), lengths=(5, 7))


@pytest.mark.parametrize("port", [Leaks, IgnoresMasks])
def test_isolated_rejects(port):
    """A port that mixes rows and a port that counts padding change the result of a sequence among others."""
    with pytest.raises(AssertionError, match=r"together with others must agree within|leaf `memory/sum` must agree"):
        testing.assert_isolated(with_port(port), SERIES, atol=1e-5)


def test_isolated_rejects_predictions_that_move_training():
    """A model whose `predict` writes to the training states is found out."""

    class Moves(rs.StatefulModel):
        def predict(self, x, **kwargs):
            self.states.write("a", {"rnn/count": [[1.0 + len(self.states)]]})
            return super().predict(x, **kwargs)

    model = Moves(policies.counting().net)
    model.states.write("a", {"rnn/count": [[0.5]]})
    with pytest.raises(AssertionError, match="leaf `rnn/count` must agree within 0"):
        testing.assert_isolated(model, SERIES, atol=1e-5)


def test_explicit_rejects():
    """A port that counts its calls in a variable is not a pure function."""
    with pytest.raises(AssertionError, match="the second of two equal calls must agree"):
        testing.assert_explicit(with_port(RunsAhead, CountedMemory), x_of(3, 5, 1))


def test_explicit_rejects_a_state_that_is_written_to():
    """A `step` that changes the state it was given is found out."""

    class Overwrites(rs.StatefulModel):
        def step(self, x, state, **kwargs):
            y, final = super().step(x, state, **kwargs)
            state["rnn/count"][...] = host(final["rnn/count"])
            return y, final

    with pytest.raises(AssertionError, match="must agree within 0"):
        testing.assert_explicit(Overwrites(policies.counting().net), x_of(3, 5, 1))


@pytest.mark.parametrize("port", [ResetsLate, ResetsToZero])
def test_reset_first_rejects(port):
    """A reset one step late is found out, and so is a reset to zero if the initial state is not zero."""
    with pytest.raises(AssertionError, match="outputs with resets must agree"):
        testing.assert_reset_first(with_port(port), x_of(3, 5, 1), FLAGS, atol=1e-5)


def test_nothing_silent_rejects():
    """A model that swallows a wrong state, or writes half of it before it raises, is found out."""

    class Silent:
        def __init__(self, states, early):
            self.states, self.early = states, early

        def read(self, keys=None):
            return self.states.read(keys)

        def write(self, keys, state):
            try:
                self.states.write(keys, state)
            except rs.RnnStateError:
                if not self.early:
                    return
                self.states.write(keys, {"rnn/count": np.full((len(keys), 1), 9.0)})
                raise

    for early, text in (
        (False, "with an unknown leaf must raise. Received: silence"),
        (True, "leaf `rnn/count` must agree"),
    ):

        class Wrong(rs.StatefulModel):
            states = property(lambda self, early=early: Silent(self._parts.states, early))

        with pytest.raises(AssertionError, match=text):
            testing.assert_nothing_silent(Wrong(policies.counting().net))


def trainer(remember):
    """Return a function that trains, keeps its progress between calls, and resumes rightly only if `remember` is true."""
    kept = {}

    def train(finished):
        model = policies.counting()
        batch, total = kept.get("at", (0, 0.0))
        while batch < 4:
            batch, total = batch + 1, total + batch
            kept["at"] = (batch, total if remember else 0.0)
            finished(batch)
        model.states.write("a", {"rnn/count": [[total]]})
        kept.clear()
        return model

    return train


def test_resumes():
    """Training that resumes passes. Training that forgets its sum fails, and so does training that ends too early."""
    testing.assert_resumes(trainer(remember=True), stop_at=[1, 3])
    with pytest.raises(AssertionError, match="leaf `rnn/count` must agree within 0"):
        testing.assert_resumes(trainer(remember=False), stop_at=[3])
    with pytest.raises(AssertionError, match="must reach batch 9 to be stopped there"):
        testing.assert_resumes(trainer(remember=True), stop_at=[9])


def test_differences_are_placed():
    """A difference is named with its size, its place and both values; NaN and another shape differ from anything."""
    with pytest.raises(
        AssertionError, match=r"value must agree within 1e-06. Received: a difference of 2 at \(1, 0\) of \(2, 2\)"
    ):
        testing.assert_close([[1.0, 2.0], [5.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(AssertionError, match=r"difference of nan at \(1,\)"):
        testing.assert_close([1.0, np.nan], [1.0, 1.0])
    with pytest.raises(AssertionError, match=r"must have shape \(2,\). Received: shape=\(1,\)"):
        testing.assert_close([1.0], [1.0, 1.0])
    with pytest.raises(AssertionError, match=r"must have the leaves \['a'\]. Received: \['b'\]"):
        testing.assert_states_close({"b": [1.0]}, {"a": [1.0]})


def test_the_counting_cell_is_saved(tmp_path):
    """The counting cell keeps its start in a file."""
    model = policies.counting(start=7)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert host(loaded.initial_state(1)["rnn/count"]).tolist() == [[7.0]]
