"""A sealed file comes back bit for bit, or is refused: cut anywhere, changed anywhere, foreign, or newer."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

import rnnstate as rs
from rnnstate import durable
from rnnstate.training.resume import file as sealed
from rnnstate.training.resume.file import read_sealed, write_sealed
from rnnstate.training.resume.packing import pack, unpack

CONTENT = {
    "epoch": 3,
    "random": (3, [1, None, True], "text ü"),
    "history": {"loss": [0.1, float("inf")], "name_2": []},
    "rows": [np.arange(15, dtype="float32").reshape(3, 5), np.zeros((0, 2), "uint32"), np.float32(0.1)],
}
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | arrays.arrays(st.sampled_from(["float16", "float64", "int32", "uint8", "bool"]), arrays.array_shapes(min_dims=0)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4).filter(lambda name: not name.startswith("__")), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def file(tmp_path):
    """Return a sealed file."""
    path = tmp_path / "one.safetensors"
    write_sealed(path, CONTENT)
    return path


def same(one, other):
    """Return whether two values are equal in type and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or one != one


@FAST
@given(PLAIN)
def test_packed_values_come_back_bit_for_bit(value):
    """Numbers, strings, arrays and every nesting of them are what they were, NaN and infinities too."""
    assert same(unpack(*pack(value)), value)


def test_a_sealed_file_comes_back_bit_for_bit(file):
    """What is read is what was written."""
    assert same(read_sealed(file), CONTENT)


def test_short_floats_come_back_as_float32():
    """Every number of bfloat16 is one of float32, which every reader knows."""
    import ml_dtypes

    value = np.array([1.5, -0.1], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(unpack(*pack([value]))[0], value.astype("float32"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1, 2}}, "set at `a`"),
        ([{"b": object()}], "object at `0.b`"),
        ({3: "a"}, "dict at the top"),
        ({"__array__": "0:x"}, "dict at the top"),
        ({"a": np.array(["x"])}, "Arrays must hold numbers.*at `a`"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(value, message):
    """Nothing is pickled."""
    with pytest.raises(rs.DataError, match=message):
        pack(value)


@FAST
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(file, data):
    """In its length field, its header, its tensors, or by the last byte."""
    whole = file.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    size = data.draw(st.integers(0, 8) | st.integers(9, header) | st.integers(header, len(whole) - 1))
    cut = file.with_name("cut.safetensors")
    cut.write_bytes(whole[:size])
    with pytest.raises(rs.DataError, match=r"complete file|must be as it was"):
        read_sealed(cut)


@FAST
@given(data=st.data())
def test_a_file_changed_anywhere_is_refused(file, data):
    """One other byte, in the header or in a tensor."""
    whole = bytearray(file.read_bytes())
    header = int.from_bytes(whole[:8], "little") + 8
    place = data.draw(st.integers(0, header - 1) | st.integers(header, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    changed = file.with_name("changed.safetensors")
    changed.write_bytes(whole)
    try:
        content = read_sealed(changed)
    except rs.DataError:
        return
    assert same(content, CONTENT), "padding may change; what is read may not"


def test_a_foreign_file_is_refused(tmp_path):
    """A safetensors file of something else, and no safetensors file at all."""
    save_file({"weights": np.ones(3)}, tmp_path / "foreign")
    with pytest.raises(rs.DataError, match=r"written by `fit.*another file"):
        read_sealed(tmp_path / "foreign")
    (tmp_path / "text").write_text("not a checkpoint at all")
    with pytest.raises(rs.DataError, match=r"complete file.*text"):
        read_sealed(tmp_path / "text")


def test_a_newer_format_is_refused(file, monkeypatch):
    """The error says which release wrote it, and what to do."""
    monkeypatch.setattr(sealed, "FORMAT_VERSION", 0)
    with pytest.raises(rs.DataError, match=r"up to format 0. Received: .* of format 1.*Upgrade rnnstate"):
        read_sealed(file)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(file, monkeypatch):
    """A full disk costs nothing that was there."""
    before = file.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_sealed(file, {"epoch": 4})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_header_says_what_the_file_is(file):
    """Any reader of safetensors can tell."""
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert (header["format"], header["format_version"]) == ("rnnstate-checkpoint", "1")
    assert json.loads(header["content"])["epoch"] == 3
