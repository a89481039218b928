"""Law: on TensorFlow native loops run in the compiled steps of a model, are exact there, and run nowhere else."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from fitting import fitted, weights_of, windows_of
from loops import a_loop, differentiable, in_graph, rebuilt, weighed, with_gradients
from nets import difference, host
from rnnstate.kernels.loops.definition import recurrent_loop as define_loop
from rnnstate.kernels.native.building import NoCompilerError

pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="these loops run on TensorFlow alone")
if keras.config.backend() == "tensorflow":
    import tensorflow as tf  # noqa: TID251

    from rnnstate.kernels.loops import native_tensorflow
    from rnnstate.kernels.loops import tensorflow as loops_tensorflow
    from rnnstate.kernels.loops.tensorflow import recurrent_loop
    from rnnstate.kernels.native import tensorflow_call, tensorflow_check

KINDS = ["lstm", "gru", "rnn"]
LAYERS = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}
SETTINGS = [{}, {"mask": True}, {"reset": True}, {"mask": True, "reset": True, "bias": False}, {"dropout": 1}]


@pytest.fixture(autouse=True)
def _loaded():
    """Register the operator: it is there in each test."""
    assert native_tensorflow.has_library()


@pytest.fixture
def traced(monkeypatch):
    """Return a list with the kind of each native loop that is traced."""
    kinds, run = [], loops_tensorflow.native_loop
    monkeypatch.setattr(loops_tensorflow, "native_loop", lambda loop: (kinds.append(loop.kind), run(loop))[1])
    return kinds


def whole_graph(loop, **settings):
    """Return the results and the gradients of a loop, all in one graph, as a model trains."""

    def run(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            value, parts = weighed(native_tensorflow.native_loop, loop, arrays)
        return [*parts, *tape.gradient(value, arrays, unconnected_gradients=tf.UnconnectedGradients.ZERO)]

    return tf.function(run, autograph=False, **settings)(*differentiable(loop))


def agree(found, expected):
    """Fail unless all arrays agree to rounding."""
    for one, other in zip(found, expected, strict=True):
        assert difference(one, other) < 1e-5 * max(1e-2, float(np.abs(host(other)).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [(3, 7, 5), (11, 13, 17)])
def test_forward_and_back_in_one_graph(kind, settings, size):
    """The way back may overwrite the gates here. Results and gradients agree with the definition."""
    loop = a_loop(kind, *size, **settings)
    loop = loop._replace(recurrent=loop.recurrent / 3)  # larger weights make rounding grow from step to step
    agree(whole_graph(loop), with_gradients(define_loop, loop))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_that_are_unknown_in_the_graph(kind):
    """The graph may leave the rows and the steps open, with flags, and serve several sizes."""
    free = {"x": (None, None, 2), "mask": (None, None), "reset": (None, None), "leaf": (None, 5)}
    kinds = {"mask": tf.bool, "reset": tf.bool}
    weights = a_loop(kind, 1, 1, 5)

    def run(x, mask, reset, *leaves):
        state, initial = leaves[: len(weights.state)], leaves[len(weights.state) :]
        return native_tensorflow.native_loop(
            weights._replace(x=x, mask=mask, reset=reset, state=state, initial=initial)
        )

    names = ["x", "mask", "reset", *["leaf"] * 2 * len(weights.state)]
    specs = [tf.TensorSpec(free[name], kinds.get(name, tf.float32)) for name in names]
    function = tf.function(run, input_signature=specs, autograph=False)
    for size in ((3, 7), (11, 5), (1, 1)):
        loop = a_loop(kind, *size, 5, mask=True, reset=True)
        found = function(loop.x, loop.mask, loop.reset, *loop.state, *loop.initial)
        expected = define_loop(loop)
        agree([found[0], *found[1]], [expected[0], *expected[1]])
    assert function.get_concrete_function().output_shapes[0].as_list() == [None, None, 5]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_tape_that_runs_twice(kind):
    """The second gradients are the first ones, although the way back overwrites gates that nobody else reads."""
    loop = a_loop(kind, 3, 7, 5, mask=True, reset=True)
    arrays = differentiable(loop)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(arrays)
        value, _ = weighed(in_graph, loop, arrays)
    one, other = (tape.gradient(value, arrays) for _ in range(2))
    assert all(difference(*pair) == 0.0 for pair in zip(one, other, strict=True))
    other_value = weighed(in_graph, loop, [array + 0.5 for array in arrays])[0]
    assert difference(value, other_value) > 1e-2


def test_a_tape_that_runs_twice_in_one_graph():
    """The same in one graph, where both ways back read the gates of one way forward."""
    loop = a_loop("lstm", 5, 7, 11)

    def run(*arrays):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arrays)
            outputs, _ = native_tensorflow.native_loop(rebuilt(loop, arrays))
            one, other = ops.sum(outputs), ops.sum(outputs * outputs)
        return [tape.gradient(value, arrays)[0] for value in (one, other, one)]

    one, other, again = tf.function(run, autograph=False)(*differentiable(loop))
    with tf.GradientTape() as tape:
        tape.watch(loop.x)
        value = ops.sum(define_loop(loop)[0] ** 2)
    agree([other], [tape.gradient(value, loop.x)])
    assert difference(one, again) < 1e-6
    assert difference(one, other) > 1e-2


def test_a_gradient_of_a_gradient():
    """It is an error that says what to do."""
    loop = a_loop("gru", 3, 7, 5)

    def run(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = ops.sum(native_tensorflow.native_loop(loop._replace(x=x))[0] ** 2)
            steepness = ops.sum(inner.gradient(value, x) ** 2)
        return outer.gradient(steepness, x)

    with pytest.raises(NotImplementedError, match=r'differentiated once.*kernels="reference"'):
        tf.function(run, autograph=False)(loop.x)


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_what_the_other_loops_give(kind, traced, monkeypatch):
    """`fit` with padding, resets and dropout gives the weights that it gives without native loops."""

    def build():
        loops = [LAYERS[kind](units, return_sequences=True, dropout=0.3, seed=5) for units in (7, 5)]
        return keras.Sequential([nets.series_input(), *loops, layers.Dense(2)])

    resets = {f"k{i}": np.arange(n) % 4 == 1 for i, n in enumerate((17, 11, 5, 13))}
    native, history = fitted(build, windows_of(2, resets=resets))
    assert traced == [kind] * 2
    monkeypatch.setattr(native_tensorflow, "has_library", lambda: False)
    plain, expected = fitted(build, windows_of(2, resets=resets))
    assert len(traced) == 2
    assert difference(weights_of(native), weights_of(plain)) < 2e-5
    assert history.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-5)
    other, _ = fitted(build, windows_of(2))
    assert difference(weights_of(native), weights_of(other)) > 1e-3


def test_where_a_model_runs_native_loops(traced):
    """`fit`, `evaluate`, `predict` and `step` run them. XLA, eager steps and a user's own functions do not."""
    windows = windows_of(1)
    model = nets.make(nets.two_layers)
    model.compile("sgd", "mse")
    for call in (model.fit, model.evaluate, model.predict):
        call(windows, verbose=0)
        assert traced == ["lstm", "gru"]
        traced.clear()
    x, state = nets.values(3, 7, nets.FEATURES), model.initial_state(3)
    y = model.step(x, state)[0]
    assert traced == ["lstm", "gru"]
    traced.clear()
    model.step(x, state, training=True)
    by_xla = tf.function(lambda x: model.step(x, state)[0], jit_compile=True)(tf.constant(x))
    for settings in ({"jit_compile": True}, {"run_eagerly": True}):
        model.compile("sgd", "mse", **settings)
        model.fit(windows, verbose=0)
        model.predict(windows, verbose=0)
    assert not traced
    assert difference(y, by_xla) < 1e-6


def test_xla_gives_the_weights_of_native_loops():
    """`jit_compile=True` trains in XLA, to the same weights."""
    one, other = (fitted(nets.two_layers, windows_of(1), jit_compile=jit)[0] for jit in (False, True))
    assert difference(weights_of(one), weights_of(other)) < 2e-5


def test_files_hold_no_native_loops(tmp_path):
    """A SavedModel of a model that has run native loops runs elsewhere, so it holds none."""
    model = nets.make(nets.two_layers)
    model.step(nets.values(3, 7, nets.FEATURES), model.initial_state(3))
    rs.export(model, tmp_path / "step", format="saved_model")
    assert b"RnnstateLoop" not in (tmp_path / "step" / "saved_model.pb").read_bytes()


def test_where_loops_cannot_be_native(traced):
    """Double precision, dropout of h and a factor for each gate run in the other loops, in the same function."""
    plain = a_loop("lstm", 3, 7, 5)
    in_double = rebuilt(plain, [tf.cast(array, tf.float64) for array in differentiable(plain)])
    others = [in_double, a_loop("lstm", 3, 7, 5, recurrent_dropout=1), a_loop("lstm", 3, 7, 5, dropout=4)]

    def run(loop):
        with native_tensorflow.without_xla():
            return tf.function(lambda: recurrent_loop(loop)[0], autograph=False)()

    agree([run(loop) for loop in others], [define_loop(loop)[0] for loop in others])
    assert not traced
    agree([run(plain)], [define_loop(plain)[0]])
    assert traced == ["lstm"]
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert not native_tensorflow.has_native_loop(plain)


@pytest.mark.parametrize(
    "changed",
    [
        {"recurrent": (5, 15)},
        {"kernel": (3, 20)},
        {"mask": (3, 6)},
        {"reset": (2, 7)},
        {"bias": (4,)},
        {"state": (2, 5)},
    ],
)
def test_no_array_of_another_shape(changed):
    """Native code would read past the end of an array, so another shape is an error before it runs."""
    loop = a_loop("lstm", 3, 7, 5, mask=True, reset=True)
    ((name, shape),) = changed.items()
    wrong = ops.zeros(shape, dtype="bool" if name in ("mask", "reset") else "float32")
    changed = {name: (wrong, wrong) if name == "state" else wrong}
    with pytest.raises(ValueError, match=r"Dimensions must be equal|Incompatible shapes"):
        in_graph(loop._replace(**changed))


def test_the_operator_checks_shapes_that_no_graph_knows():
    """It compares the sizes of all arrays when it runs."""
    loop = a_loop("lstm", 3, 7, 5)

    def run(rows):
        state = tuple(leaf[:rows] for leaf in loop.state)
        numbers = [loop.x, loop.kernel, loop.recurrent, *state, loop.bias]
        return tensorflow_call.call_loop("lstm", tensorflow_call.FORWARD, numbers, 5, biases=True)[0]

    function = tf.function(run, input_signature=[tf.TensorSpec((), tf.int32)], autograph=False)
    assert difference(function(3), define_loop(loop)[0]) < 1e-6
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have shapes that fit together"):
        function(2)


@pytest.fixture
def checked_anew():
    """Forget the answer that is kept for the process, before the test and after it."""
    native_tensorflow.has_library.cache_clear()
    yield
    native_tensorflow.has_library.cache_clear()


@pytest.mark.usefixtures("checked_anew")
def test_a_library_that_cannot_be_loaded(monkeypatch):
    """If there is no library and no compiler, one warning says so, and the other loops run."""

    def fail():
        raise NoCompilerError("None was found among: cc, gcc, clang")

    monkeypatch.setattr(native_tensorflow, "_register", fail)
    with pytest.warns(UserWarning, match=r"TensorFlow's own loops run.*cc, gcc, clang.*install a C compiler"):
        assert not native_tensorflow.has_native_loop(a_loop("lstm", 3, 7, 5))
    assert not native_tensorflow.has_library()


@pytest.mark.usefixtures("checked_anew")
def test_wrong_numbers(monkeypatch):
    """If native code gives wrong numbers through TensorFlow, one warning says so, and the other loops run."""
    call = tensorflow_check.call_loop

    def wrong(*given, **more):
        return [part * 1.001 for part in call(*given, **more)]

    monkeypatch.setattr(tensorflow_check, "call_loop", wrong)
    with pytest.warns(UserWarning, match=r"what NumPy gives. Received: numbers that differ by .* on TensorFlow"):
        assert not native_tensorflow.has_library()


@pytest.mark.usefixtures("checked_anew")
def test_switched_off(monkeypatch, recwarn):
    """With `RNNSTATE_NATIVE=off`, nothing is loaded, and nothing is said."""
    monkeypatch.setattr(native_tensorflow, "_register", lambda: pytest.fail("native code was loaded"))
    monkeypatch.setenv("RNNSTATE_NATIVE", "off")
    assert not native_tensorflow.has_library()
    assert not recwarn.list


def test_the_number_of_threads(monkeypatch):
    """TensorFlow's settings give the number of threads. Without a setting, each core of the process gets one."""
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    assert tensorflow_call.threads() >= 1
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "5")
    assert tensorflow_call.threads() == 5
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 3)
    assert tensorflow_call.threads() == 3
