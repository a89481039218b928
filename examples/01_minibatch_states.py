"""Every minibatch starts from the right state: two stacked LSTM layers of different sizes, trained on long series.

Ten series are cut into windows of 96 steps, ten windows to a minibatch. Before each minibatch h and c of both layers are
set for every sample: (a) to where the model itself left that series, (b) to states that you give, (c) to arrays of a
wrong size, which is refused. Run it with `python examples/01_minibatch_states.py`.
"""

import keras
import numpy as np

import rnnstate as rs

SERIES, WINDOW, WINDOWS = 10, 96, 6
KEYS = list(range(SERIES))
keras.utils.set_random_seed(0)


def make_series():
    """A switch is thrown now and then (feature 0: +1 or -1); the class of each step is where it stands.

    Feature 1 is noise. A window in which no switch is thrown says nothing about its class: only the state knows.
    """
    rng = np.random.default_rng(0)
    thrown = rng.choice([0.0, 1.0, -1.0], p=[0.99, 0.005, 0.005], size=(SERIES, WINDOWS * WINDOW))
    thrown[:, 0] = rng.choice([1.0, -1.0], size=SERIES)
    stands = np.zeros(SERIES)
    classes = np.zeros(thrown.shape, int)
    for step, throw in enumerate(thrown.T):
        stands = np.where(throw == 0, stands, throw)
        classes[:, step] = stands > 0
    x = np.stack([thrown, rng.normal(scale=0.1, size=thrown.shape)], axis=-1)
    return x.astype("float32"), np.eye(2, dtype="float32")[classes]


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
model.compile(keras.optimizers.Adam(0.01), "mean_squared_error", metrics=["accuracy"])
print("The state of this model, for each sample:")
for leaf, spec in model.state_spec.items():
    print(f"  {leaf:10} {spec.describe()}")

# (a) From the model's own last state. `Windows` puts window k of series i into row i of batch k, and `fit` starts each
# row from the state in which the window before ended. A series' first window starts from the initial state, zeros.
windows = rs.Windows(x, y, length=WINDOW, batch_size=SERIES)
history = model.fit(windows, epochs=40, verbose=0).history
carried = model.evaluate(windows, verbose=0, return_dict=True)
# The control: the same windows as sixty series of their own, so that each starts from zeros.
alone = rs.Windows(x.reshape(-1, WINDOW, 2), y.reshape(-1, WINDOW, 2), length=WINDOW, batch_size=SERIES)
dropped = model.evaluate(alone, verbose=0, return_dict=True)
print("\n(a) Each minibatch starts where the one before ended.")
print(f"  training loss: first epoch {history['loss'][0]:.3f}, last epoch {history['loss'][-1]:.3f}")
print(f"  accuracy with the state carried: {carried['accuracy']:.3f}; with each window from zeros: {dropped['accuracy']:.3f}")


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
