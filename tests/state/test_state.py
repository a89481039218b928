"""State: an immutable mapping of leaf names to arrays with one row per sample."""

import numpy as np
import pytest
from keras import ops

import nets
import rnnstate as rs


def example():
    """Return a state of three rows with two leaves of different sizes."""
    return rs.State({"lstm/h": nets.values(3, 5, seed=1), "gru/h": nets.values(3, 7, seed=2)})


def test_it_is_a_mapping():
    """Names, order and arrays are those it was made from, and a plain dictionary can be made from it."""
    state = example()
    assert list(state) == ["lstm/h", "gru/h"]
    assert (len(state), state.batch_size) == (2, 3)
    assert dict(state)["gru/h"].shape == (3, 7)
    assert repr(state) == "State(lstm/h: (3, 5) float32, gru/h: (3, 7) float32)"
    assert rs.State(state) == state
    assert rs.State().batch_size == 0


def test_it_cannot_be_changed():
    """There is no way to put another array in, nor to use a state as a key."""
    state = example()
    with pytest.raises(TypeError, match=r"does not support item assignment"):
        state["lstm/h"] = np.zeros((3, 5))
    with pytest.raises(TypeError, match=r"does not support item deletion"):
        del state["lstm/h"]
    with pytest.raises(TypeError, match=r"unhashable"):
        hash(state)
    leaves = {"a": np.zeros((3, 2))}
    made = rs.State(leaves)
    leaves["b"] = np.zeros((3, 2))
    assert list(made) == ["a"]


def test_equality_is_bit_for_bit():
    """Equal means the same leaves with the same values, whatever holds the arrays."""
    state = example()
    assert state == example()
    assert state == dict(example())
    assert state == state.map(ops.convert_to_tensor)
    nudged = state.replace(**{"gru/h": np.nextafter(state["gru/h"], np.float32(2))})
    assert state != nudged
    assert state != {"lstm/h": state["lstm/h"]}
    assert state != 3


@pytest.mark.parametrize("tensors", [False, True])
def test_rows(tensors):
    """Rows are picked in the given order, from either end, from arrays and from tensors."""
    state = example()
    held = state.map(ops.convert_to_tensor) if tensors else state
    picked = held.rows([2, 0, -1])
    for name, value in state.items():
        np.testing.assert_array_equal(nets.host(picked[name]), value[[2, 0, 2]])
    for row in (3, -4):
        with pytest.raises(rs.StateShapeError, match=rf"Rows must lie in 0 to 2.*Received: row {row}"):
            held.rows([0, row])


@pytest.mark.parametrize("tensors", [False, True])
def test_put_is_undone_by_rows(tensors):
    """Rows go where they are told, from either end, into a new state; the others stay."""
    state = example()
    held = state.map(ops.convert_to_tensor) if tensors else state
    other = rs.State({"lstm/h": nets.values(2, 5, seed=7), "gru/h": nets.values(2, 7, seed=8)})
    after = held.put([-1, 0], other)
    assert after.rows([2, 0]) == other
    assert after.rows([1]) == state.rows([1])
    assert held == state


def test_put_refuses_what_does_not_fit():
    """Rows out of range, given twice, or of another number, and other leaves."""
    state = example()
    two = state.rows([0, 1])
    for rows in ([1, 1], [0, -3], [0]):
        with pytest.raises(rs.StateShapeError, match=r"one distinct row number for each row\. Received: rows"):
            state.put(rows, two)
    with pytest.raises(rs.StateShapeError, match=r"Rows must lie in 0 to 2.*Received: row 3"):
        state.put([0, 3], two)
    with pytest.raises(rs.StateStructureError, match="The state has the leaves `lstm/h`, `gru/h`"):
        state.put([0, 1], {"lstm/h": two["lstm/h"]})


@pytest.mark.parametrize("tensors", [False, True])
def test_cast_and_mean(tensors):
    """The same values in another dtype; and one row with the mean of all."""
    state = example()
    held = state.map(ops.convert_to_tensor) if tensors else state
    half = held.cast("float16")
    assert {leaf.dtype for leaf in half.spec.values()} == {"float16"}
    mean = held.mean()
    assert mean.batch_size == 1
    for name, value in state.items():
        np.testing.assert_array_equal(nets.host(half[name]), value.astype("float16"))
        np.testing.assert_allclose(nets.host(mean[name])[0], value.mean(axis=0), atol=1e-7)


def test_replace():
    """Some leaves are replaced in a new state; names and shapes must be those of the old one."""
    state = example()
    h = nets.values(3, 5, seed=9)
    new = state.replace(**{"lstm/h": h})
    np.testing.assert_array_equal(new["lstm/h"], h)
    np.testing.assert_array_equal(new["gru/h"], state["gru/h"])
    assert state == example()
    with pytest.raises(rs.StateStructureError, match=r"has the leaves `lstm/h`, `gru/h`. Received: `lstm/c`"):
        state.replace(**{"lstm/c": h})
    expected = r"`lstm/h` must have shape \(batch=3, units=5\). Received: shape=\(3, 2\)"
    with pytest.raises(rs.StateShapeError, match=expected):
        state.replace(**{"lstm/h": h[:, :2]})


def test_replace_takes_a_mapping():
    """Leaves are given by name, for a layer together, or both; other dtypes are converted, and integers are refused."""
    state = example()
    h, g = nets.values(3, 5, seed=9), nets.values(3, 7, seed=8)
    expected = state.replace(**{"lstm/h": h, "gru/h": g})
    assert state.replace({"lstm/h": h, "gru/h": g.astype("float64")}) == expected
    assert state.replace({"lstm": rs.State({"h": h})}, **{"gru/h": g.tolist()}) == expected
    assert state.replace({"lstm/h": ops.convert_to_tensor(h)}) == state.replace({"lstm/h": h}) != state
    assert state.replace() == state
    with pytest.raises(
        rs.StateValueError, match=r"`gru/h` must have a floating dtype \(float32\). Received: dtype=int"
    ):
        state.replace({"gru/h": np.ones((3, 7), int)})
    with pytest.raises(rs.StateStructureError, match=r"leaves `lstm/h`, `gru/h`. Received: `lstm/c`"):
        state.replace({"lstm": {"h": h, "c": h}})
    with pytest.raises(rs.StateStructureError, match=r"given once. Received: `lstm/h` twice"):
        state.replace({"lstm": {"h": h}, "lstm/h": h})
    with pytest.raises(rs.StateStructureError, match=r"Received: `lstm`"):
        state.replace({"lstm": h})
    with pytest.raises(rs.StateStructureError, match=r"mapping of leaf names to arrays. Received: ndarray"):
        state.replace(h)
    with pytest.raises(rs.StateShapeError, match=r"`gru/h` must be an array"):
        state.replace({"gru/h": [[1.0], [1.0, 2.0]]})


def test_a_layer_of_a_state_is_a_state():
    """The name of a layer or a nested network gives its leaves; a leaf of that name goes first; `in` knows leaves alone."""
    h, c, g = (nets.values(3, size, seed=size) for size in (2, 5, 7))
    state = rs.State({"encoder/lstm/h": h, "encoder/lstm/c": c, "encoder_1/gru/h": g})
    assert state["encoder"] == {"lstm/h": h, "lstm/c": c}
    assert list(state["encoder/lstm"]) == ["h", "c"]
    assert state["encoder"]["lstm"]["c"] is c
    assert state["encoder_1"].batch_size == 3
    assert (list(state), len(state)) == (["encoder/lstm/h", "encoder/lstm/c", "encoder_1/gru/h"], 3)
    assert "encoder" not in state
    assert "encoder/lstm/h" in state
    assert state.replace({"encoder": state["encoder"]}) == state
    assert rs.State({"rnn": h, "rnn/0": c})["rnn"] is h
    for name in ("enc", "encoder/lstm/h/", "encoder/", ""):
        with pytest.raises(rs.UnknownKeyError, match=rf"leaves `encoder/lstm/h`.*Received: `{name}`"):
            state[name]
    with pytest.raises(rs.UnknownKeyError, match=r"The leaves are `a`. Received: `b`"):
        rs.StateSpec({"a": rs.LeafSpec((2,))})["b"]
    assert state.get("none") is None


def test_numpy_is_a_copy():
    """`numpy` gives arrays that nothing else holds."""
    state = example()
    copy = state.numpy()
    copy["lstm/h"][:] = 0
    assert state == example()
    assert all(isinstance(value, np.ndarray) for value in state.map(ops.convert_to_tensor).numpy().values())


def test_concat_is_the_inverse_of_rows():
    """Rows put under one another are the state they were taken from; leaves must be the same in all."""
    state = example()
    assert rs.concat([state.rows([0]), state.rows([1, 2])]) == state
    assert rs.concat([state.map(ops.convert_to_tensor)]) == state
    with pytest.raises(rs.StateStructureError, match=r"at least one state. Received: none"):
        rs.concat([])
    with pytest.raises(rs.StateStructureError, match=r"`lstm/h`, `gru/h`. Received: state 1 with `lstm/h`"):
        rs.concat([state, {"lstm/h": state["lstm/h"]}])
    wider = {**state, "gru/h": np.zeros((1, 8), "float32"), "lstm/h": np.zeros((1, 5), "float32")}
    with pytest.raises(rs.StateShapeError, match=r"`gru/h` must have shape \(batch, units=7\).*\(1, 8\) in state 1"):
        rs.concat([state, wider])


def test_leaves_must_agree():
    """Leaves without rows, with other rows, or without a name are refused."""
    with pytest.raises(rs.StateShapeError, match=r"`a` must have a batch axis. Received: shape=\(\)"):
        rs.State({"a": 1.0})
    with pytest.raises(rs.StateShapeError, match=r"same number of rows. Received: `a` has 2, `b` has 3"):
        rs.State({"a": np.zeros((2, 5)), "b": np.zeros((3, 5))})
    for name in ("", 3):
        with pytest.raises(rs.StateStructureError, match=rf"non-empty strings. Received: {name!r}"):
            rs.State({name: np.zeros((2, 5))})


def test_spec_of_a_state():
    """A state knows its own shapes and dtypes, of arrays and of tensors alike."""
    state = example()
    expected = {"lstm/h": rs.LeafSpec((5,)), "gru/h": rs.LeafSpec((7,))}
    assert dict(state.spec) == expected
    assert dict(state.map(ops.convert_to_tensor).spec) == expected


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (np.zeros((3, 5), "float32"), np.zeros((3, 5), "float32"), True),
        (np.full((3, 5), np.nan, "float32"), np.full((3, 5), np.nan, "float32"), True),
        (np.zeros((3, 5), "float32"), -np.zeros((3, 5), "float32"), False),
        (np.zeros((3, 5), "float32"), np.zeros((3, 5), "float64"), False),
        (np.zeros((3, 5), "float32"), np.zeros((3, 7), "float32"), False),
    ],
    ids=["zeros", "nan", "negative zero", "dtype", "shape"],
)
def test_equal_states_have_the_same_bits(one, other, equal):
    """States are equal if dtype, shape and every bit of each leaf agree."""
    assert (rs.State({"gru/h": one}) == rs.State({"gru/h": other})) is equal
