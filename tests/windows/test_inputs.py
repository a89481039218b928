"""User data in all its forms becomes the same sequences, as views, or is refused with key and step."""

import keras
import numpy as np
import pytest

from rnnstate.errors import DataError
from rnnstate.windows.inputs import read_sequences

pytestmark = pytest.mark.once

RNG = np.random.default_rng(11)
A = RNG.normal(size=(7, 2)).astype("float32")
B = RNG.normal(size=(5, 2)).astype("float32")
STACK = RNG.normal(size=(3, 7, 2)).astype("float32")


def rows(fields, name=None):
    """Return the rows of a field as nested lists."""
    return [np.asarray(row).tolist() for row in fields[name].arrays]


def test_array_is_one_sequence():
    """An array `(time, features)` is one sequence with key 0, not copied."""
    data = read_sequences(A)
    assert data.keys == (0,)
    assert data.lengths.tolist() == [7]
    assert data.x[None].arrays[0] is A


def test_stacked_array():
    """An array `(sequences, time, features)` has keys 0, 1, 2 and stays the array it is."""
    data = read_sequences(STACK)
    assert data.keys == (0, 1, 2)
    assert data.x[None].arrays is STACK
    assert data.lengths.tolist() == [7, 7, 7]


def test_array_of_higher_rank():
    """An array `(sequences, time, rows, channels)`, as ConvLSTM1D takes, is stacked sequences."""
    data = read_sequences(np.ones((2, 5, 3, 1)))
    assert data.lengths.tolist() == [5, 5]
    assert data.x[None].entry_shape == (3, 1)


def test_list_and_mapping():
    """Lists have keys 0, 1, 2, mappings their own; rows are the user's arrays."""
    listed, mapped = read_sequences([A, B]), read_sequences({"a": A, "b": B})
    assert listed.keys == (0, 1)
    assert mapped.keys == ("a", "b")
    assert listed.x[None].arrays[1] is B
    assert mapped.x[None].arrays[1] is B


def test_tokens():
    """Arrays `(time,)` hold one value per step, and integers stay integers."""
    data = read_sequences({"u": np.array([3, 1, 2]), "v": [5, 4]})
    assert data.x[None].entry_shape == ()
    assert data.x[None].dtype == "int32"
    assert rows(data.x) == [[3, 1, 2], [5, 4]]


def test_backend_tensors():
    """Tensors of the backend are taken as arrays."""
    data = read_sequences(keras.ops.convert_to_tensor(A))
    np.testing.assert_array_equal(data.x[None].arrays[0], A)


def test_inputs_with_equal_steps():
    """String keys, rank 3 and equal (sequences, time) mean inputs."""
    data = read_sequences({"a": STACK, "b": STACK[..., :1]})
    assert set(data.x) == {"a", "b"}
    assert data.keys == (0, 1, 2)


def test_one_level_mapping_of_sequences():
    """Arrays of one rank below 3, or of different lengths, mean sequences; so do keys that are no strings."""
    assert read_sequences({"a": A, "b": B}).keys == ("a", "b")
    assert read_sequences({"a": STACK, "b": STACK[:2]}).keys == ("a", "b")
    assert read_sequences({4: STACK, 2: STACK}).keys == (4, 2)


def test_by_decides():
    """`by` overrides what the ranks suggest, both ways."""
    inputs = read_sequences({"a": A, "b": A[:, :1]}, by="input")
    assert inputs.keys == (0,)
    assert set(inputs.x) == {"a", "b"}
    sequences = read_sequences({"a": STACK, "b": STACK}, by="key")
    assert sequences.keys == ("a", "b")
    assert sequences.x[None].entry_shape == (7, 2)


def test_static_is_found_beside_stacked_arrays():
    """A float array `(sequences, values)` beside rank 3 is one vector per sequence, also when its size is the steps."""
    profile = RNG.normal(size=(3, 7))
    data = read_sequences({"a": STACK, "profile": profile})
    assert data.x["profile"].kind == "static"
    assert data.x["profile"].entry_shape == (7,)
    assert data.x["a"].kind == "steps"


def test_integers_beside_stacked_arrays_are_tokens():
    """An integer array `(sequences, time)` beside rank 3 is one value per step."""
    data = read_sequences({"a": STACK, "tokens": np.ones((3, 7), dtype=int)})
    assert data.x["tokens"].kind == "steps"
    assert data.x["tokens"].entry_shape == ()


def test_static_is_found_in_nested_mappings():
    """In `{key: {input: array}}` float vectors of one size that is not the steps are static."""
    data = read_sequences({"u": {"a": A, "s": np.ones(5)}, "v": {"a": B, "s": np.zeros(5)}})
    assert data.keys == ("u", "v")
    assert data.x["s"].kind == "static"
    assert data.lengths.tolist() == [7, 5]


def test_static_by_name():
    """`static=` names them where the default would not, and `()` turns the default off."""
    stack = {"a": STACK, "s": np.ones((3, 7))}
    assert read_sequences(stack, static=()).x["s"].kind == "steps"
    nested = {"u": {"a": A, "s": np.ones(7)}}
    assert read_sequences(nested).x["s"].kind == "steps"
    assert read_sequences(nested, static="s").x["s"].kind == "static"


def test_inputs_of_keyed_sequences():
    """`by='input'` reads `{input: {key: array}}` as well as `{key: {input: array}}`."""
    outer = read_sequences({"a": {"u": A, "v": B}, "b": {"u": A[:, :1], "v": B[:, :1]}}, by="input")
    inner = read_sequences({"u": {"a": A, "b": A[:, :1]}, "v": {"a": B, "b": B[:, :1]}})
    assert outer.keys == inner.keys == ("u", "v")
    for name in ("a", "b"):
        assert rows(outer.x, name) == rows(inner.x, name)


@pytest.mark.parametrize("x", [[{"a": A, "b": A}, {"a": B, "b": B}], {"a": [A, B], "b": [A, B]}])
def test_inputs_of_lists(x):
    """Several inputs may be a list of mappings or a mapping of lists."""
    data = read_sequences(x)
    assert data.keys == (0, 1)
    assert rows(data.x, "b") == [A.tolist(), B.tolist()]


def test_targets_follow_the_form_of_x():
    """`y` is read as `x` was given: one, stacked, by key, or by output name."""
    assert rows(read_sequences(A, A[:, 0]).y) == [A[:, 0].tolist()]
    assert rows(read_sequences(STACK, STACK[..., 0]).y) == STACK[..., 0].tolist()
    assert rows(read_sequences({"a": A, "b": B}, {"b": B[:, 1], "a": A[:, 1]}).y) == [
        A[:, 1].tolist(),
        B[:, 1].tolist(),
    ]
    assert set(read_sequences(STACK, {"p": STACK, "q": STACK[..., 0]}).y) == {"p", "q"}
    assert set(read_sequences({"a": A}, {"a": {"p": A, "q": A}}).y) == {"p", "q"}
    assert set(read_sequences({"a": A}, {"p": {"a": A}, "q": {"a": A}}).y) == {"p", "q"}
    assert rows(read_sequences([A, B], {0: A, 1: B}).y) == [A.tolist(), B.tolist()]
    assert rows(read_sequences(A, A[:, 0].tolist()).y) == [A[:, 0].tolist()]


def broken(array, index, value):
    """Return a copy with one value replaced."""
    array = np.array(array)
    array[index] = value
    return array


REFUSED = [
    ({"x": {"a": A, "b": broken(B, (3, 1), np.nan)}}, r"`x` must be finite. Received: nan in sequence 'b', step 3, fe"),
    ({"x": broken(STACK, (1, 4, 0), np.inf)}, r"`x` must be finite. Received: inf in sequence 1, step 4, feature 0"),
    ({"x": broken(STACK.astype("float16"), (1, 4, 0), -np.inf)}, r"Received: -inf in sequence 1, step 4, feature 0"),
    ({"x": A, "y": broken(A[:, 0], 2, np.nan)}, r"`y` must be finite. Received: nan in sequence 0, step 2\."),
    ({"x": A, "y": A, "sample_weight": broken(A[:, 0], 6, np.nan)}, r"`sample_weight` must be finite.*step 6"),
    ({"x": {"a": STACK, "s": broken(np.ones((3, 4)), (2, 1), np.nan)}}, r"`x\['s'\]` must.*sequence 2, feature 1"),
    ({"x": broken(A.astype("float64"), (2, 0), 1e39)}, r"`x` must fit float32. Received: 1e\+39 in sequence 0, step 2"),
    ({"x": [np.array([1, 2**31])]}, r"`x` must fit int32. Received: 2147483648 in sequence 0, step 1"),
    ({"x": {"a": A, "b": B[:0]}}, r"Sequence 'b' must have at least one step. Received: `x` of shape \(0, 2\)"),
    (
        {"x": {"a": A, "b": B[:, :1]}},
        r"one shape per step.*\(2,\), as in sequence 'a'. Received: \(1,\) in sequence 'b'",
    ),
    ({"x": {"a": A, "b": B}, "y": {"a": A, "c": B}}, r"`y` must have the keys of `x`. Received: no 'b' and also 'c'"),
    ({"x": dict.fromkeys("abcde", A), "y": {"a": A}}, r"Received: no 'b', 'c', 'd', ... \(4 in all\)"),
    ({"x": {"a": A}, "y": A}, r"`y` must be a mapping by key, as `x`. Received: ndarray"),
    ({"x": [A, B], "y": [A]}, r"`y` must have 2 sequences, as `x`. Received: 1"),
    ({"x": STACK, "y": STACK[:2]}, r"`y` must have 3 sequences, as `x`. Received: 2"),
    ({"x": STACK, "y": np.ones(3)}, r"one row for each of the 3 sequences.*Received: shape \(3,\)"),
    ({"x": []}, r"`x` must hold at least one sequence. Received: none"),
    ({"x": {}}, r"`x` must hold at least one sequence. Received: none"),
    ({"x": STACK[:0]}, r"`x` must hold at least one sequence. Received: none"),
    ({"x": A, "y": {}}, r"`y` must hold at least one array. Received: an empty mapping"),
    ({"x": A.astype(object)}, r"`x` must hold numbers. Received: dtype=object in sequence 0"),
    ({"x": {"a": np.array(["p", "q"])}}, r"`x` must hold numbers. Received: dtype=<U1 in sequence 'a'"),
    ({"x": {"a": A * 1j}}, r"`x` must hold numbers. Received: dtype=complex64 in sequence 'a'"),
    ({"x": {"a": [[1, 2], [3]]}}, r"`x` must be an array of numbers. Received: .* in sequence 'a'"),
    ({"x": 3.0}, r"`x` must have a time axis. Received: the number 3.0"),
    ({"x": np.ma.masked_equal(A, A[0, 0])}, r"`x` must have all its values. Received: a masked array in sequence 0"),
    ({"x": {"a": {"p": A, "q": A[:6]}}}, r"`x\['q'\]` must have 7 steps in sequence 'a', as `x\['p'\]`. Received: 6"),
    ({"x": {"a": {"p": A}, "b": {"q": A}}}, r"same names in each sequence: 'p', as in sequence 'a'. Received: 'q' in"),
    ({"x": A, "static": "s"}, r"`static` must name inputs. Received: 's'; the inputs are without names"),
    ({"x": {"a": STACK, "b": STACK}, "static": ["c"]}, r"Received: 'c'; the inputs are 'a', 'b'"),
    ({"x": {"a": STACK, "b": STACK}, "static": ["a", "b"]}, r"At least one input must have a time axis"),
    ({"x": A, "by": "name"}, r"`by` must be 'key', 'input' or None. Received: by='name'"),
]


@pytest.mark.parametrize(("data", "text"), REFUSED, ids=range(len(REFUSED)))
def test_refused_with_key_and_step(data, text):
    """Data that cannot be right is refused with its place and the reason."""
    with pytest.raises(DataError, match=text):
        read_sequences(**data)
