"""Law: nothing around the step is wasted. Counted, not timed: compilations, copies and transfers."""

import importlib
import tracemalloc

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import KERAS, refuses_many_steps

LENGTH, ROWS = 5, 3


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


def test_the_count_can_fail(backend):
    """Windows of another length are traced and compiled anew."""
    model = model_of()
    model.fit(windows([17, 17]), verbose=0)
    data = nets.series([18, 18])
    longer = rs.Windows(data, nets.series([18, 18], features=1), length=LENGTH + 1, batch_size=ROWS)
    with Compilations() as seen:
        model.fit(longer, verbose=0)
    assert (seen.traces > steps_in_python(len(longer), backend)) == (backend != "torch")
    assert seen.compiled == 0 or backend == "jax"
    assert seen.compiled > 0 or backend != "jax"


def test_with_padding_and_without_are_compiled_once_each(backend):
    """A dataset has a mask or none, and a step is kept for either: nothing compiles at the third turn."""
    model = model_of()
    padded, full = windows([17, 17, 17]), windows([15, 15, 15])
    for data in (padded, full):
        model.fit(data, validation_data=data, verbose=0)
        model.predict(data, verbose=0)
    with Compilations() as seen:
        for data in (padded, full):
            model.fit(data, validation_data=data, verbose=0)
            model.predict(data, verbose=0)
    assert seen.traces == steps_in_python(3 * (len(padded) + len(full)), backend)
    assert seen.compiled == 0


def test_a_larger_bank_is_compiled_once(backend):
    """More sequences than rows in the bank double it, and the step with it; keys that are written before make room."""
    few, many = windows([17, 17, 17]), windows([9] * 8)
    grown, roomy = model_of(), model_of()
    for model in (grown, roomy):
        model.states.write(many.keys[: 8 if model is roomy else 3], {})
        model.fit(few, verbose=0)
        model.fit(few, verbose=0)
    with Compilations() as seen:
        grown.fit(many, verbose=0)
    assert (seen.traces > steps_in_python(len(many), backend)) == (backend != "torch")
    with Compilations() as seen:
        grown.fit(many, verbose=0)
        roomy.fit(many, verbose=0)
    assert seen.traces == steps_in_python(2 * len(many), backend)
    assert seen.compiled == 0


def test_more_sequences_in_predict_leave_the_training_step(backend):
    """The bank of inference is not part of a training step, except on JAX, where Keras hands all variables to each."""
    model = model_of()
    few, many = windows([17, 17, 17]), windows([9] * 8)
    for _ in range(2):
        model.fit(few, verbose=0)
        model.predict(few, verbose=0)
    model.predict(many, verbose=0)
    with Compilations() as seen:
        model.fit(few, verbose=0)
    assert seen.traces == (1 if backend == "jax" else steps_in_python(len(few), backend))


def test_the_remainder_of_a_call_is_compiled_once(backend):
    """With several steps in a call, all remainders share one more function, in all epochs and datasets."""
    if refuses_many_steps(backend):
        with pytest.raises(ValueError, match="steps_per_execution"):
            model_of(steps_per_execution=3).fit(windows([17]), verbose=0)
        return
    model = model_of(steps_per_execution=3)
    with Compilations() as seen:
        model.fit(windows([5 * 4 - 1] * 3), epochs=2, verbose=0)  # four steps: a call, and a remainder of one
    first = seen.traces
    assert first <= 4  # to build the model, on TensorFlow the call again with variables made; a call, a remainder
    with Compilations() as seen:
        model.fit(windows([5 * 5 - 1] * 3), epochs=3, verbose=0)  # a remainder of two
        model.fit(windows([5 * 6 - 1] * 3), verbose=0)  # none
        model.fit(windows([5 * 1 - 1] * 3), verbose=0)  # less than a call
    assert seen.traces == 0
    assert seen.compiled == 0


def test_step_compiles_nothing_for_another_sequence(backend):
    """`step` is compiled for the shapes it meets, and runs on for as many windows and sequences as there are."""
    model = rs.StatefulModel(nets.randomized(build()))
    x, state = nets.values(1, LENGTH, nets.FEATURES), model.initial_state(1)
    _, state = model.step(x, state)
    model.step(x, state)
    with Compilations() as seen:
        for seed in range(3):
            after = state
            for _ in range(2):
                _, after = model.step(nets.values(1, LENGTH, nets.FEATURES, seed=seed), after)
    assert seen.traces == steps_in_python(6, backend)
    assert seen.compiled == 0


def held(data):
    """Return all arrays that windows keep of their inputs, targets and weights, row by row."""
    fields = [*data._data.x.values(), *data._data.y.values(), *data._data.weights.values()]
    return [row for field in fields for row in field.arrays]


FORMS = {
    "one sequence": lambda x: x[0],
    "stacked": lambda x: x,
    "by key": lambda x: {"a": x[0], "b": x[1]},
    "a list": list,
    "strided": lambda x: x[:, ::2],
    "float64": lambda x: x.astype("float64"),
}


@pytest.mark.once
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("settings", [{}, {"pieces": 2}, {"order": "shuffled"}, {"burn_in": 3}], ids=str)
def test_windows_are_views(form, settings):
    """What windows hold is the user's own memory: nothing is copied, padded or converted before a batch is made."""
    x, y = form(nets.values(2, 20, nets.FEATURES)), form(nets.values(2, 20, 1))
    data = rs.Windows(x, y, sample_weight=y_weights(y), length=LENGTH, batch_size=2, **settings)
    own = [*keras.tree.flatten(x), *keras.tree.flatten(y)]
    rows = held(data)
    assert all(any(np.shares_memory(row, array) for array in own) for row in rows if row.ndim > 1)
    before = data[0][0]["x"].copy()
    for array in own:
        array *= 2
    np.testing.assert_array_equal(data[0][0]["x"], 2 * before)
    assert not any(np.shares_memory(data[0][0]["x"], array) for array in own)


def y_weights(y):
    """Return weights for targets in the same form."""
    return keras.tree.map_structure(lambda array: np.ones(array.shape[:-1]), y)


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_is_the_only_copy(dtype):
    """Making windows of large arrays takes next to no memory, and making a batch takes the batch: no second copy."""
    x = np.zeros((4, 100_000, 7), dtype)
    size = np.float32().nbytes * 4 * 10_000 * 7
    tracemalloc.start()
    try:
        data = rs.Windows(x, length=10_000, batch_size=4)
        made = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        batch = data[3]
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch[0]["x"].nbytes == size
    assert made < size / 2
    assert size <= taken - made < 1.2 * size or size <= taken < 1.2 * size + made


class Guard(keras.callbacks.Callback):
    """Lets JAX refuse, in each call, every transfer to the device that is not asked for in so many words."""

    def on_train_batch_begin(self, batch, logs=None):
        """A call begins."""
        self.put("disallow")

    def on_train_batch_end(self, batch, logs=None):
        """A call has ended."""
        self.put("allow")

    def put(self, guard):
        """Set the guard."""
        if keras.config.backend() == "jax":
            import jax  # noqa: TID251

            jax.config.update("jax_transfer_guard_host_to_device", guard)


def test_a_call_is_one_transfer(backend, monkeypatch):
    """On JAX all arrays of the steps of a call go to the device at once, and nothing else does while it runs."""
    if KERAS >= (3, 16):
        pytest.skip("Keras stacks the steps of a call itself")
    steps = importlib.import_module("rnnstate.kernels.step.jax")
    model, data = model_of(steps_per_execution=1 if backend == "torch" else 3), windows([5 * 6 - 1] * 3)
    model.fit(data, verbose=0)
    sent, guard, allow = [], Guard(), steps.jax.transfer_guard_host_to_device
    monkeypatch.setattr(steps.jax, "transfer_guard_host_to_device", lambda how: sent.append(how) or allow(how))
    try:
        model.fit(data, epochs=2, callbacks=[guard], verbose=0)
    finally:
        guard.put("allow")
    assert sent == ["allow"] * (2 * len(data) // 3 if backend == "jax" else 0)


class Counting(rs.Windows):
    """Windows that count how often each batch is made."""

    def __init__(self, *args, **kwargs):
        """Count from zero."""
        self.made = []
        super().__init__(*args, **kwargs)

    def __getitem__(self, index):
        """Make a batch, and remember its number."""
        self.made.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_the_first_batch_is_made_once(method):
    """Checks, the building of the model and the first step share one first batch, and no other batch is made twice."""
    model, x, y = model_of(), nets.series([17, 12, 9]), nets.series([17, 12, 9], features=1, seed=50)
    data, validation = (Counting(x, y, length=LENGTH, batch_size=ROWS) for _ in range(2))
    data.epoch = 5  # as after an earlier `fit`
    getattr(model, method)(data, verbose=0, **({"validation_data": validation} if method == "fit" else {}))
    assert sorted(data.made) == list(range(len(data)))
    assert sorted(validation.made) == (list(range(len(validation))) if method == "fit" else [])


def test_the_first_batch_of_each_epoch_is_its_own():
    """A first batch that was kept is never that of another epoch."""
    model, x, y = model_of(), nets.series([17] * 9), nets.series([17] * 9, features=1, seed=50)
    data = Counting(x, y, length=LENGTH, batch_size=ROWS, order="shuffled")
    model.fit(data, epochs=3, verbose=0)
    assert data.made.count(0) == 3


def test_a_checkpointed_run_makes_each_batch_twice(tmp_path):
    """With checkpoints, the digest of the data makes each batch, and the steps make each once again."""
    model, x, y = model_of(), nets.series([17, 12, 9]), nets.series([17, 12, 9], features=1, seed=50)
    data = Counting(x, y, length=LENGTH, batch_size=ROWS)
    model.fit(data, checkpoint=tmp_path / "run", verbose=0)
    assert [data.made.count(index) for index in range(len(data))] == [2] * len(data)
