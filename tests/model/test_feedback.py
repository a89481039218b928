"""`rollout` with `feedback`: tokens, draws and several inputs, against single steps fed back by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from nets import difference, host
from serving import serving

BATCH, STEPS, TOKENS = 3, 5, 7


def choose(y):
    """Return the most likely token."""
    return ops.argmax(y, axis=-1)


def draw(y, seed):
    """Draw a token."""
    return ops.squeeze(keras.random.categorical(y, 1, dtype="int32", seed=seed), axis=-1)


@pytest.fixture(scope="module")
def language():
    """Return a model of tokens."""
    net = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(TOKENS, 4),
            layers.LSTM(5, return_sequences=True, name="lstm"),
            layers.Dense(TOKENS),
        ]
    )
    return rs.StatefulModel(nets.randomized(net))


def first():
    """Return one token for each row."""
    return np.array([1, 6, 0], "int32")


def test_the_most_likely_token_is_fed_back(language):
    """Tokens are whole numbers: outputs, state and the tokens are those of single steps."""
    feed, state, outputs = first(), language.initial_state(BATCH), []
    with serving():
        for _ in range(STEPS):
            y, state = language.step(feed[:, None], state)
            outputs.append(host(y)[:, 0])
            feed = outputs[-1].argmax(-1)
        for x0 in (first(), first()[:, None]):
            y, final = language.rollout(x0, language.initial_state(BATCH), STEPS, feedback=choose)
            assert difference(y, np.stack(outputs, axis=1)) < 1e-5
            assert difference(final, state) < 1e-5


def test_draws_are_seeded_and_fresh(language):
    """A seed repeats the draws, another one or none draws others, and the loop is compiled once for all."""

    def run(seed):
        return host(language.rollout(first(), language.initial_state(BATCH), 11, feedback=draw, seed=seed)[0])

    with serving():
        one, again, other, fresh, newer = (run(seed) for seed in (1, 1, 2, None, None))
    assert difference(one, again) == 0
    assert min(difference(one, other), difference(fresh, newer), difference(one, fresh)) > 1e-3


def test_a_loop_is_compiled_once(language):
    """Equal shapes run what is there, another length makes a loop of its own, and a changed layer makes all anew."""
    calls = []

    def counted(y):
        calls.append(1)
        return choose(y)

    def run(steps):
        with serving():
            language.rollout(first(), language.initial_state(BATCH), steps, feedback=counted)
        return len(calls)

    compiled = keras.config.backend() != "torch"  # there the loop itself runs in Python
    counts = [run(4), run(4), run(3)]
    assert (counts[0] == counts[1]) == compiled
    assert counts[2] > counts[1]
    language.forget_compiled()
    assert run(4) > counts[2]
    if compiled:
        assert len(language._parts.loops._made) <= 16


def test_known_inputs_beside_fed_back_ones():
    """One input is fed back, one is known at each step, and one is the same at every step."""
    token, sun = keras.Input((None,), dtype="int32", name="token"), keras.Input((None, 2), name="sun")
    place = keras.Input((3,), name="place")
    joined = layers.Concatenate()([layers.Embedding(TOKENS, 4)(token), sun])
    hidden = layers.GRU(5, return_sequences=True, name="gru")(joined)
    hidden = layers.Add()([hidden, layers.Reshape((1, 5))(layers.Dense(5)(place))])
    net = keras.Model({"token": token, "sun": sun, "place": place}, layers.Dense(TOKENS)(hidden))
    model = rs.StatefulModel(nets.randomized(net))
    known = {"sun": nets.values(BATCH, STEPS, 2), "place": nets.values(BATCH, 3, seed=3)}
    feed, state, outputs = first(), model.initial_state(BATCH), []
    with serving():
        for t in range(STEPS):
            x = {"token": feed[:, None], "sun": known["sun"][:, t : t + 1], "place": known["place"]}
            y, state = model.step(x, state)
            outputs.append(host(y)[:, 0])
            feed = outputs[-1].argmax(-1).astype("int32")
        start = model.initial_state(BATCH)
        y, final = model.rollout({"token": first()}, start, STEPS, inputs=known, feedback=choose)
    assert difference(y, np.stack(outputs, axis=1)) < 1e-5
    assert difference(final, state) < 1e-5
    for given, text in (
        ({"inputs": {"sun": known["sun"]}}, "Every input must be in `x0` or in `inputs`. Received: no `place`"),
        ({"inputs": {**known, "moon": 1}}, r"`inputs` must name inputs of the network.*Received: \['moon'\]"),
        ({"inputs": {**known, "sun": known["sun"][:, 1:]}}, r"`inputs` must have shape \(3, 5, 2\) for input `sun`"),
        ({"inputs": known, "feedback": None}, "Without `feedback`.*3 inputs and 1 outputs"),
    ):
        with pytest.raises(rs.DataError, match=text):
            model.rollout({"token": first()}, start, STEPS, **{"feedback": choose, **given})
    with pytest.raises(rs.DataError, match="`x0` must say by name which inputs it gives"):
        model.rollout(first(), start, STEPS, inputs=known, feedback=choose)


@pytest.mark.parametrize(
    ("feedback", "text"),
    [
        (None, "takes one number for each step, such as a token. Give `feedback=`"),
        (lambda y: y, r"`feedback` must return shape \(3,\) for input .*Received: shape=\(3, 7\)"),
        (lambda y: y[:, 0], r"`feedback` must return whole numbers \(int32\).*Received: dtype=float32"),
        (lambda y: {"word": y}, r"`feedback` must return the inputs .*Received: \['word'\]"),
    ],
)
def test_feedback_that_does_not_fit_is_refused(language, feedback, text):
    """The message says what the input takes and what came."""
    with serving(), pytest.raises(rs.DataError, match=text):
        language.rollout(first(), language.initial_state(BATCH), STEPS, feedback=feedback)
