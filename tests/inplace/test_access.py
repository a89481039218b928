"""`read`, `write` and `reset`: the same variables get new values, all of them or none."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
import stateful_nets as models
from rnnstate.errors import CarryError, StateShapeError, StateStructureError, StateValueError, UnsupportedModelError

BATCH = models.BATCH

every_net = pytest.mark.parametrize("build", models.LEAVES, ids=lambda build: build.__name__)
every_form = pytest.mark.parametrize("form", models.FORMS.values(), ids=list(models.FORMS))
written = {"lstm/h": (5,), "lstm/c": (5,), "gru/h": (7,)}


def written_model(form):
    """Return a model of two layers with known random states, and those states."""
    model, state = form(models.lstm_gru()), models.random_state(written)
    rs.write(model, state)
    return model, state


@every_form
@every_net
def test_read_names_every_leaf(build, form):
    """Leaves are named by layer path, in the order of the model, with one row per row of the batch."""
    state = rs.read(form(build()))
    assert {name: value.shape for name, value in state.items()} == {
        name: (BATCH, *shape) for name, shape in models.LEAVES[build].items()
    }
    assert list(state) == list(models.LEAVES[build])


@every_form
@every_net
def test_write_then_read_is_identity_in_the_same_variables(build, form):
    """`read` returns bit for bit the values that `write` took, and every variable stays the same object."""
    model = form(build())
    before = models.variables_of(model)
    given = models.random_state(models.LEAVES[build])
    rs.write(model, given)
    assert rs.read(model) == given
    after = models.variables_of(model)
    assert len(after) == len(given)
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert all(nets.difference(v, given[n]) == 0 for v, n in zip(after, given, strict=True))


@every_form
def test_write_some_leaves(form):
    """Leaves that are not given keep their value, and the order of the given leaves does not matter."""
    model, state = written_model(form)
    other = models.random_state(written, seed=11)
    rs.write(model, {"gru/h": other["gru/h"], "lstm/h": other["lstm/h"]})
    assert rs.read(model) == {**other, "lstm/c": state["lstm/c"]}


@every_form
@pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0]), (2, 0)])
def test_write_some_rows_by_number(form, rows):
    """The row numbers say where each given row goes, and the other rows keep their value."""
    model, state = written_model(form)
    other = models.random_state(written, rows=2, seed=11)
    rs.write(model, other, rows=rows)
    now = rs.read(model)
    for name in written:
        expected = np.stack([other[name][1], state[name][1], other[name][0]])
        assert np.array_equal(now[name], expected)


@every_form
def test_write_some_rows_by_boolean(form):
    """One boolean per row selects rows, in the order of the batch."""
    model, state = written_model(form)
    other = models.random_state(written, rows=2, seed=11)
    rs.write(model, other, rows=[True, False, True])
    now = rs.read(model)
    for name in written:
        assert np.array_equal(now[name], np.stack([other[name][0], state[name][1], other[name][1]]))


def wrong(name, value):
    """Return a state in which exactly one leaf is wrong."""
    return {**models.random_state(written, seed=11), name: value}


def with_one(value):
    """Return a leaf of `gru/h` with one bad number in row 1."""
    leaf = nets.values(BATCH, 7)
    leaf[1, 4] = value
    return leaf


BAD = {
    "other units": (
        wrong("gru/h", nets.values(BATCH, 2)),
        None,
        StateShapeError,
        r"`gru/h` must have shape \(batch=3, units=7\). Received: shape=\(3, 2\)",
    ),
    "no batch": (wrong("gru/h", nets.values(7)), None, StateShapeError, r"`gru/h`.*Received: shape=\(7,\)"),
    "one row for all": (
        wrong("gru/h", nets.values(1, 7)),
        None,
        StateShapeError,
        r"`gru/h` must have shape \(batch=3, units=7\). Received: shape=\(1, 7\)",
    ),
    "a number": (wrong("gru/h", 1.0), None, StateShapeError, r"`gru/h`.*Received: shape=\(\)"),
    "ragged list": (wrong("gru/h", [[1.0], [1.0, 2.0], []]), None, StateShapeError, r"`gru/h` must be an array"),
    "integers": (
        wrong("gru/h", np.ones((BATCH, 7), "int32")),
        None,
        StateValueError,
        r"`gru/h` must have a floating dtype \(float32\). Received: dtype=int32",
    ),
    "text": (wrong("gru/h", np.full((BATCH, 7), "a")), None, StateValueError, r"`gru/h`.*Received: dtype="),
    "nan": (wrong("gru/h", with_one(np.nan)), None, StateValueError, r"`gru/h`.*Received: nan in row 1 \(1 of 21"),
    "infinity": (wrong("gru/h", with_one(np.inf)), None, StateValueError, r"`gru/h`.*Received: inf in row 1"),
    "too large for float32": (
        wrong("gru/h", with_one(1.0).astype("float64") * 1e39),
        None,
        StateValueError,
        r"`gru/h` must hold finite values",
    ),
    "unknown leaf": (
        wrong("gru/c", nets.values(BATCH, 7)),
        None,
        StateStructureError,
        r"leaves `lstm/h`, `lstm/c`, `gru/h`. Received: unknown `gru/c`",
    ),
    "no mapping": ([nets.values(BATCH, 7)], None, StateStructureError, "must be a mapping.*Received: list"),
    "row too high": (models.random_state(written, rows=2), [0, 3], StateShapeError, "0 to 2. Received: row 3"),
    "row negative": (models.random_state(written, rows=1), [-1], StateShapeError, "0 to 2. Received: row -1"),
    "row twice": (models.random_state(written, rows=2), [1, 1], StateShapeError, r"Received: rows \[1, 1\]"),
    "rows as floats": (models.random_state(written, rows=2), [0.0, 1.0], StateShapeError, "Received: dtype=float64"),
    "booleans too short": (models.random_state(written, rows=2), [True, True], StateShapeError, "dtype=bool"),
    "more rows than chosen": (
        models.random_state(written),
        [0, 1],
        StateShapeError,
        r"`lstm/h` must have shape \(batch=2, units=5\). Received: shape=\(3, 5\)",
    ),
}


@every_form
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_write_changes_nothing(form, kind):
    """For every mistake, the message says what was expected and received, and every leaf keeps its bits."""
    given, rows, error, match = BAD[kind]
    model, state = written_model(form)
    with pytest.raises(error, match=match):
        rs.write(model, given, rows=rows)
    assert rs.read(model) == state


@every_form
def test_write_reaches_the_compiled_step(form):
    """`predict` starts from the written state, also if it was compiled before."""
    model = form(models.simple_rnn())
    x = nets.values(BATCH, 2, 2)
    state = {"rnn/h": nets.values(BATCH, 5)}
    rs.write(model, state)
    first = model.predict(x, batch_size=BATCH, verbose=0)
    further = model.predict(x, batch_size=BATCH, verbose=0)
    rs.write(model, state)
    assert nets.difference(model.predict(x, batch_size=BATCH, verbose=0), first) == 0
    assert nets.difference(first, further) > 1e-2


def rebind_shape(layer):
    """Bind a variable of another shape."""
    layer.states[0] = keras.Variable(np.zeros((BATCH, 2)), name="rnn_state")


def rebind_variable(layer):
    """Bind another variable of the same shape."""
    layer.states[0] = keras.Variable(np.zeros((BATCH, 5)), name="rnn_state")


def rebind_array(layer):
    """Bind an array."""
    layer.states[0] = np.zeros((BATCH, 5))


def rebind_number(layer):
    """Bind a number."""
    layer.states[0] = 0.0


def rebind_list(layer):
    """Bind two variables to one place."""
    layer.states[0] = [layer.states[0], layer.states[1]]


REBOUND = {
    "another shape": (
        rebind_shape,
        r"`lstm.states\[0\]` \(leaf `lstm/h`\).*variable named `rnn_state` of shape \(3, 2\)",
    ),
    "another variable": (rebind_variable, r"`lstm.states\[0\]` \(leaf `lstm/h`\).*`rnn_state` of shape \(3, 5\)"),
    "an array": (rebind_array, r"`lstm.states\[0\]` \(leaf `lstm/h`\).*Received: ndarray of shape \(3, 5\)"),
    "a number": (rebind_number, r"`lstm.states\[0\]` \(leaf `lstm/h`\).*Received: float"),
    "more leaves": (rebind_list, r"`lstm.states\[0\]`"),
}


def check_rebound(model, match):
    """Assert that read, write, reset and audit all name the rebound leaf, and that the errors name `write`."""
    for use in (rs.read, rs.reset, lambda model: rs.write(model, {"lstm/c": nets.values(BATCH, 5)})):
        with pytest.raises(StateStructureError, match=match) as raised:
            use(model)
        assert "rnnstate.write" in str(raised.value)
    with pytest.raises(StateStructureError, match="Received"):
        rs.write(model, {"lstm/h": nets.values(BATCH, 5)})
    findings = [finding for finding in rs.audit(model) if finding.code == "rebound"]
    assert [finding.level for finding in findings] == ["error"]


@pytest.mark.parametrize("kind", REBOUND)
def test_a_rebound_state_is_named(kind):
    """A state bound to anything but the variable of the layer is an error everywhere, also in the audit."""
    rebind, match = REBOUND[kind]
    model = models.lstm()
    rebind(model.layers[0])
    check_rebound(model, match)


@pytest.mark.parametrize(("to", "of"), [(0, 1), (1, 0)])
def test_the_other_leafs_variable_is_named(to, of):
    """One variable for h and c is an error that names both."""
    model = models.lstm()
    model.layers[0].states[to] = model.layers[0].states[of]
    check_rebound(
        model, r"`lstm/h` and `lstm/c` must be two different variables.*one variable of shape \(3, 5\) for both"
    )


def test_another_layers_variable_is_named():
    """The state of another layer of the same size is an error that names both leaves."""
    first, second = (layers.LSTM(5, stateful=True, return_sequences=True, name=name) for name in ("lstm", "lstm2"))
    model = models.net(first, second)
    second.states[1] = first.states[1]
    check_rebound(model, "`lstm/c` and `lstm2/c` must be two different variables")


def test_stock_layers_are_refused_where_the_step_ignores_them():
    """On JAX, read, write and reset refuse stock layers and name `repair`. On other backends they work."""
    model = models.lstm()
    uses = (rs.read, rs.reset, lambda model: rs.write(model, {"lstm/h": nets.values(BATCH, 5)}))
    for use in uses:
        if models.on_jax():
            with pytest.raises(CarryError, match=r"first leaf `lstm/h`.*rnnstate\.repair\(model\)"):
                use(model)
        else:
            use(model)
    assert (
        all(nets.difference(variable, np.zeros((BATCH, 5))) == 0 for variable in model.layers[0].states)
        == models.on_jax()
    )


@every_form
@every_net
def test_reset_goes_to_the_initial_state(build, form):
    """Every leaf returns to the initial state of the cell, which need not be zero."""
    model = form(build())
    initial = rs.read(models.FORMS["repaired"](build()))
    rs.write(model, models.random_state(models.LEAVES[build]))
    rs.reset(model)
    assert rs.read(model) == initial
    if build is models.custom:
        assert np.unique(initial["rnn/0"]).tolist() == [0.75]
        assert np.unique(initial["rnn/1"]).tolist() == [-0.5]


@every_form
def test_reset_of_some_rows(form):
    """Only the given rows are reset, on every leaf."""
    model = form(models.custom())
    given = models.random_state(models.LEAVES[models.custom])
    rs.write(model, given)
    rs.reset(model, rows=[1])
    now = rs.read(model)
    for name, start in {"rnn/0": 0.75, "rnn/1": -0.5}.items():
        assert np.array_equal(now[name][[0, 2]], given[name][[0, 2]])
        assert np.unique(now[name][1]).tolist() == [start]


@every_form
def test_both_directions(form):
    """A stock Bidirectional keeps forward and then backward leaves. A repaired one keeps only forward leaves."""
    model = form(models.both_ways())
    repaired = type(model.layers[0]).__name__ == "CarryingLayer"
    sides = ("forward",) if repaired else ("forward", "backward")
    leaves = {f"both/{side}/{leaf}": (5,) for side in sides for leaf in "hc"}
    assert list(rs.read(model)) == list(leaves)
    given = models.random_state(leaves)
    rs.write(model, given)
    assert rs.read(model) == given


def test_a_subclassed_model():
    """The states of a subclassed model are read and written on the backends that carry them."""
    model = models.subclassed()
    if models.on_jax():
        with pytest.raises(CarryError, match=r"first leaf `lstm/h`"):
            rs.read(model)
    else:
        given = models.random_state(models.LEAVES[models.lstm])
        rs.write(model, given)
        assert rs.read(model) == given


@pytest.mark.parametrize("use", [rs.read, rs.reset, lambda model: rs.write(model, {})])
def test_models_without_state_in_their_layers(use):
    """A network without stateful layers and a StatefulModel are refused, and the message says what to use instead."""
    net = nets.lstm()
    with pytest.raises(StateStructureError, match=r"none of which keeps its state.*rnnstate\.StatefulModel"):
        use(net)
    with pytest.raises(UnsupportedModelError, match=r"model\.states\.read\(keys\)"):
        use(rs.StatefulModel(net))


def test_a_model_that_is_not_built():
    """A layer without state variables is refused, and the message says how to build it."""
    model = keras.Sequential([layers.LSTM(5, stateful=True, name="lstm")])
    with pytest.raises(UnsupportedModelError, match=r"`lstm` must be built.*batch_shape"):
        rs.read(model)
