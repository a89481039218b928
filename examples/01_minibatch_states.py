"""Every minibatch starts from the right state: two stacked LSTM layers of different sizes, trained on long series.

Ten series are cut into windows of 96 steps, ten windows to a minibatch. Before each minibatch h and c of both layers are
set for every sample: (a) to where the model itself left that series, (b) to states that you give, (c) to arrays of a
wrong size, which is refused, (d) from known values of that size, by a learned map. Run it with
`KERAS_BACKEND=jax python examples/01_minibatch_states.py`.
"""

import numpy as np

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

SERIES, WINDOW, WINDOWS = 10, 96, 4
KEYS = list(range(SERIES))
keras.utils.set_random_seed(0)


def make_series():
    """Two noisy measurements of a switch, `(series, time, 2)`, and at each step where it stands, as one of two classes.

    One measurement says little. Who remembers the last twenty knows well, so a window's first steps need the state.
    """
    rng = np.random.default_rng(0)
    thrown = rng.random((SERIES, WINDOWS * WINDOW)) < 0.005
    stands = np.cumsum(thrown, axis=1) % 2
    x = (2.0 * stands - 1.0)[..., None] + rng.normal(scale=3.0, size=(*stands.shape, 2))
    return x.astype("float32"), np.eye(2, dtype="float32")[stands]


def accuracy(model, windows, steps=10):
    """Return how often the first steps of all windows are classified right."""
    outputs = np.stack(list(model.predict(windows, verbose=0).values())).reshape(-1, WINDOW, 2)
    return float(np.mean(outputs.argmax(-1)[:, :steps] == y.reshape(-1, WINDOW, 2).argmax(-1)[:, :steps]))


x, y = make_series()
net = keras.Sequential(
    [
        keras.Input((None, 2)),
        keras.layers.LSTM(8, return_sequences=True, name="lstm_8"),
        keras.layers.LSTM(16, return_sequences=True, name="lstm_16"),
        keras.layers.Dense(2, activation="softmax"),
    ]
)
model = rs.StatefulModel(net)
model.compile(keras.optimizers.Adam(0.02), "mean_squared_error", metrics=["accuracy"])
print("The state of this model, for each sample:")
for leaf, spec in model.state_spec.items():
    print(f"  {leaf:10} {spec.describe()}")

# (a) From the model's own last state. `Windows` puts window k of series i into row i of batch k, and `fit` starts each
# row from the state in which the window before ended. A series' first window starts from the initial state, zeros.
windows = rs.Windows(x, y, length=WINDOW, batch_size=SERIES)
history = model.fit(windows, epochs=12, verbose=0).history
# The control: the same windows as forty series of their own, so that each starts from zeros.
alone = rs.Windows(x.reshape(-1, WINDOW, 2), length=WINDOW, batch_size=SERIES)
print("\n(a) Each minibatch starts where the one before ended.")
print(f"  training loss {history['loss'][0]:.3f} in the first epoch, {history['loss'][-1]:.3f} in the last")
print(f"  training accuracy in the last epoch {history['accuracy'][-1]:.3f}")
print(f"  accuracy in the first ten steps of each window: {accuracy(model, windows):.3f}, state carried")
print(f"                                                  {accuracy(model, alone):.3f}, each window from zeros")


# (b) From given states. h and c of both layers have one row for each series, in the sizes of the layers. A callback
# writes them before each minibatch; `self.model.states` is the way to them while `fit` runs. A loader could not do this:
# it runs ahead of the training step.
#
# Does it make sense to set one layer's state only? It is possible: leaves that are not given keep their value. It is
# seldom right. A layer's h belongs to its c (h = o * tanh(c)), and what layer 2 remembers is what layer 1 told it. Give
# all leaves, as they were at one moment of one series; or leave a layer out because its memory shall stay.
class StartFrom(keras.callbacks.Callback):
    """Before batch k, put every series into state `given[k]`, and compute what the loss must then be."""

    def __init__(self, given):
        super().__init__()
        self.given, self.total = given, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.states.write(KEYS, self.given[batch])
        inputs, targets = windows[batch]
        outputs, _ = self.model.step(inputs["x"], self.given[batch], training=True)
        self.expected = float(np.mean((keras.ops.convert_to_numpy(outputs) - targets) ** 2))

    def on_train_batch_end(self, batch, logs=None):
        before, self.total = self.total, logs["loss"] * (batch + 1)  # Keras logs the mean since the epoch began
        print(f"  batch {batch}: loss {self.total - before:.4f}, from the given states {self.expected:.4f}")


rng = np.random.default_rng(1)
given = [
    {leaf: rng.uniform(-0.5, 0.5, size=(SERIES, *spec.shape)) for leaf, spec in model.state_spec.items()}
    for _ in range(WINDOWS)
]
print("\n(b) Each minibatch starts from given states.")
model.fit(windows, epochs=1, verbose=0, callbacks=[StartFrom(given)])

# (c) From wrong sizes: the two values of the last step, bound to a layer of 8.
#
# Why could a state of size 2 be bound to a layer of 8, without any error? In Keras `layer.states` is a plain Python list.
# `layer.states[0] = variable` binds another object to a place in it: no code of Keras runs, so nothing is checked, and
# the compiled training step goes on with the variable that it was compiled with. Here states are written, not bound:
# everything is checked before anything is changed.
print("\n(c) Each minibatch starts from the last two values of its series: refused.")
before = model.states.read(KEYS)
try:
    model.states.write(KEYS, {**before, "lstm_8/h": x[:, -1]})
except rs.StateShapeError as error:
    print(f"  {error}")
print(f"  every state is as it was: {model.states.read(KEYS) == before}")

# (d) From known values of another size: where the switch stood at the step before, 2 values. `Observed` learns one map from
# them to each leaf, h and c of both layers, 2 -> 8 and 2 -> 16, along with the network. `at="window"` uses it at every
# window. `Windows` takes the values as a series, and hands each window those of the step before it.
known = rs.StatefulModel(keras.models.clone_model(net), initial_state=rs.initial.Observed(at="window"))
known.compile(keras.optimizers.Adam(0.02), "mean_squared_error")
observed = rs.Windows(x, y, observed=y, length=WINDOW, batch_size=SERIES)
known.fit(observed, epochs=12, verbose=0)
start = known.initial_state(batch_size=2, observed=np.eye(2))
print("\n(d) Each minibatch starts from the true values of the step before: 2 values, mapped to each layer.")
print(f"  {', '.join(f'{leaf} {tuple(value.shape)}' for leaf, value in start.items())} for two samples")
print(f"  accuracy in the first ten steps of each window: {accuracy(known, observed):.3f}")
