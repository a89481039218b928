"""State files: what is written is read back; anything else is refused, and nothing is ever half written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

import nets
import rnnstate as rs
from rnnstate.errors import DataError, SpecMismatchError, StateShapeError, StateStructureError
from rnnstate.state import files, signature

pytestmark = pytest.mark.once

LEAVES = {"lstm/h": (5,), "lstm/c": (5,), "conv/h": (7, 2), "gru/h": (3,)}


def some_state(rows=3, dtype="float32"):
    """Return a state of several leaves with random values, `c` before `h` in the alphabet but not here."""
    return rs.State(
        {name: nets.values(rows, *shape, seed=i).astype(dtype) for i, (name, shape) in enumerate(LEAVES.items())}
    )


@pytest.fixture
def saved(tmp_path):
    """Return the path of a state file with metadata."""
    path = tmp_path / "state.safetensors"
    rs.save_state(path, some_state(), metadata={"keys": ["a", "b", "c"], "step": 11})
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_round_trip(tmp_path, rows, dtype):
    """Names, order, shapes, dtypes and values come back, bit for bit."""
    state = some_state(rows, dtype)
    rs.save_state(tmp_path / "state", state)
    loaded = rs.load_state(tmp_path / "state")
    assert loaded == state
    assert list(loaded) == list(state)
    assert loaded.spec == state.spec


def test_round_trip_of_bfloat16(tmp_path):
    """A dtype that NumPy does not have itself comes back too, bit for bit."""
    import ml_dtypes

    state = some_state().map(lambda value: value.astype(ml_dtypes.bfloat16))
    rs.save_state(tmp_path / "state", state)
    assert rs.load_state(tmp_path / "state") == state


def test_round_trip_of_other_mappings(tmp_path):
    """A plain mapping, the state of a model, and leaves that are views of other arrays are saved by value."""
    model = rs.StatefulModel(nets.two_layers())
    for state in (dict(some_state()), model.initial_state(3), {"h": nets.values(5, 3).T, "c": nets.values(6, 2)[::2]}):
        rs.save_state(tmp_path / "state", state)
        assert rs.load_state(tmp_path / "state") == rs.State(state).numpy()


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=7).filter(lambda name: name != "__metadata__"),
        st.lists(st.integers(0, 3), max_size=3),
        max_size=5,
    ),
    st.integers(0, 3),
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
)
@settings(deadline=None, max_examples=50)
def test_round_trip_of_anything(tmp_path_factory, leaves, rows, metadata):
    """Any leaf names, shapes and metadata come back."""
    path = tmp_path_factory.mktemp("files") / "state"
    state = rs.State({name: np.random.default_rng(1).normal(size=(rows, *shape)) for name, shape in leaves.items()})
    rs.save_state(path, state, metadata=metadata)
    assert rs.load_state(path) == state
    assert rs.load_metadata(path) == metadata


def test_metadata(saved):
    """A user reads back the metadata, and safetensors reads the leaves without knowing the signature."""
    assert rs.load_metadata(saved) == {"keys": ["a", "b", "c"], "step": 11}
    assert set(load_file(saved)) == set(LEAVES)


def test_the_spec_is_checked(saved):
    """A file of another model is refused with both specs; that of the model is taken."""
    spec = some_state().spec
    assert rs.load_state(saved, spec=spec) == some_state()
    other = rs.StateSpec({**spec, "lstm/c": rs.LeafSpec((7,))})
    with pytest.raises(SpecMismatchError, match=rf"{other.fingerprint}.*units=7.*{spec.fingerprint}.*units=5"):
        rs.load_state(saved, spec=other)


def test_a_file_of_the_same_architecture_gets_the_names_of_the_spec(tmp_path):
    """Layers are numbered anew in each process: `lstm_6` of the file is `lstm_1` of the spec."""
    state = rs.State({"lstm_5/h": nets.values(3, 5), "lstm_6/h": nets.values(3, 5, seed=1)})
    rs.save_state(tmp_path / "state", state)
    spec = rs.StateSpec({"lstm/h": rs.LeafSpec((5,)), "lstm_1/h": rs.LeafSpec((5,))})
    loaded = rs.load_state(tmp_path / "state", spec=spec)
    assert loaded == {"lstm/h": state["lstm_5/h"], "lstm_1/h": state["lstm_6/h"]}


@given(st.floats(0, 1, exclude_max=True))
@settings(deadline=None, max_examples=60)
def test_a_truncated_file_is_refused(tmp_path_factory, share):
    """Cut anywhere, in the length, the header or the data, a file is never read as something else."""
    path = tmp_path_factory.getbasetemp() / "whole"
    rs.save_state(path, some_state())
    content = path.read_bytes()
    check_truncated(path, content, int(share * len(content)))


def test_a_file_truncated_at_its_seams_is_refused(saved):
    """Cut where its parts meet, or one byte beside, a file is refused."""
    content = saved.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for seam in (0, 8, header, header + 4, len(content)):
        for length in {max(seam - 1, 0), min(seam, len(content) - 1), min(seam + 1, len(content) - 1)}:
            check_truncated(saved, content, length)


def check_truncated(path, content, length):
    """Assert that the first bytes of a file are refused."""
    path.write_bytes(content[:length])
    with pytest.raises(DataError, match=r"must be complete. Received: .*Write it again"):
        rs.load_state(path)


def test_a_foreign_file_is_refused(tmp_path):
    """A safetensors file of someone else, or no such file at all, is refused."""
    save_file({"h": np.ones((3, 5), "float32")}, tmp_path / "theirs")
    with pytest.raises(DataError, match=r"written by `rnnstate\.save_state`. Received: .*without its signature"):
        rs.load_state(tmp_path / "theirs")
    (tmp_path / "text").write_text("time,load\n" * 100)
    with pytest.raises(DataError, match="must be complete"):
        rs.load_state(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        rs.load_state(tmp_path / "none")


def tampered(path, **changes):
    """Change the signature of a file; `None` takes a field away."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    signature = {**header["__metadata__"], **changes}
    header["__metadata__"] = {name: value for name, value in signature.items() if value is not None}
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + size :])


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(deadline=None, max_examples=60)
def test_a_changed_value_is_refused(tmp_path_factory, share, change):
    """A single byte of the values that is another one is noticed, wherever it stands."""
    path = tmp_path_factory.getbasetemp() / "changed"
    rs.save_state(path, some_state())
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    content[begin + int(share * (len(content) - begin))] ^= change
    path.write_bytes(content)
    with pytest.raises(DataError, match="was changed since"):
        rs.load_state(path)


def small_file(path, version="2"):
    """Return the bytes of a small state file, written as release 0.1.0 did if `version` is 1."""
    state = rs.State({"gru/h": nets.values(2, 3), "l\x1f/c": nets.values(2, 1, seed=1)})
    rs.save_state(path, state, metadata={"sha256": "ü"})
    if version == "1":
        header = signature.read_signature(path.read_bytes()) | {"format_version": "1"}
        header["sha256"] = signature._hash_of_values(header, state)
        path.write_bytes(save(dict(state), metadata=header))
    return path.read_bytes()


def flipped(content, bits):
    """Return the content with some bits flipped."""
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def check_refused(content, bits):
    """Assert that a file with flipped bits is refused."""
    try:
        files.parse(Path("flipped"), flipped(content, bits))
    except DataError:
        return
    places = [(bit // 8, content[max(bit // 8 - 9, 0) : bit // 8 + 9]) for bit in bits]
    pytest.fail(f"A flip of {len(bits)} bits was accepted: {places}")


def test_every_flipped_bit_is_found(tmp_path):
    """A file with any one bit flipped is refused: in lengths, names, blanks, values and the checksum itself."""
    content = small_file(tmp_path / "state")
    assert files.parse(tmp_path, content)[1].batch_size == 2
    for bit in range(8 * len(content)):
        check_refused(content, [bit])


def test_a_file_of_format_2_does_not_pass_as_one_of_format_1(tmp_path):
    """Two flipped bits make format 1 of format 2, and a third one hits any name of the header."""
    content = small_file(tmp_path / "state")
    place = 8 * (content.index(b'"format_version":"2"') + len('"format_version":"'))
    as_format_1 = [place, place + 1]
    assert b'"format_version":"1"' in flipped(content, as_format_1)
    check_refused(content, as_format_1)
    for bit in range(8 * (8 + int.from_bytes(content[:8], "little"))):
        if bit not in as_format_1:
            check_refused(content, [*as_format_1, bit])


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_checksum_without_its_name_is_missed(tmp_path, version):
    """One or two bits of the name of the checksum and one bit of a value: release 0.1.0 loaded such files."""
    content = small_file(tmp_path / "state", version)
    assert files.parse(tmp_path, content)[1].batch_size == 2
    begin, value = 8 * content.index(b"sha256"), 8 * len(content) - 2
    for first in range(begin, begin + 48):
        check_refused(content, [first, value])
        for second in range(first + 1, begin + 48, 5):
            check_refused(content, [first, second, value])


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=3))
@settings(max_examples=300)
def test_two_or_three_flipped_bits_are_found(tmp_path_factory, shares):
    """A file with two or three bits flipped, anywhere, is refused."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    content = path.read_bytes() if path.exists() else small_file(path)
    bits = {int(share * 8 * len(content)) for share in shares}
    check_refused(content, bits)


def test_blanks_that_mean_the_same_are_found(tmp_path):
    """A blank of the header that becomes a line feed, three bits, means the same to every reader, and is still refused."""
    content = small_file(tmp_path / "state")
    size = 8 + int.from_bytes(content[:8], "little")
    padded = (size - 8 + 8).to_bytes(8, "little") + content[8:size] + b" " * 8 + content[size:]
    for blank in (b" ", b"\n"):
        changed = padded[:size] + blank + padded[size + 1 :]
        with pytest.raises(DataError, match="was changed since"):
            files.parse(tmp_path, changed)


def test_changed_metadata_are_refused(saved):
    """What the user added is part of the hash too."""
    tampered(saved, metadata='{"keys": ["a", "c", "b"], "step": 11}')
    with pytest.raises(DataError, match="was changed since"):
        rs.load_state(saved)


def test_an_oversized_file_is_refused(saved):
    """Bytes after the data, or a header that claims more than there is, are refused without being read."""
    content = saved.read_bytes()
    for changed in (content + b"\0", content + content, (2**62).to_bytes(8, "little") + content[8:]):
        saved.write_bytes(changed)
        with pytest.raises(DataError, match="must be complete"):
            rs.load_state(saved)


def test_versions(saved):
    """A file names the libraries that wrote it."""
    versions = files.load_versions(saved)
    assert versions["rnnstate"] == rs.__version__
    assert versions["keras"] == keras.__version__
    assert keras.config.backend() in versions


def test_a_newer_format_is_refused(saved):
    """A file of a later release names the release and asks for an upgrade."""
    tampered(saved, format_version="3", rnnstate_version="9.1.0", leaves=None)
    with pytest.raises(DataError, match=r"up to format 2. Received: .*format 3, written by rnnstate 9\.1\.0. Upgrade"):
        rs.load_state(saved)


UNREADABLE = [{field: value} for field in ("format_version", "leaves", "metadata") for value in (None, "{", "true")]
UNREADABLE += [{"format_version": "[1]"}, {"leaves": '{"a": 1}'}, {"metadata": "[]"}]
UNREADABLE += [{"format_version": text} for text in ("0", "-1", " 1", "1.0", "²")] + [
    {"sha256": None},
    {"versions": None},
]
UNREADABLE += [{"fingerprint": None}, {"fingerprint": "0" * 16}, {"rnnstate_version": None}]


@pytest.mark.parametrize("changes", UNREADABLE, ids=str)
def test_a_tampered_signature_is_refused(saved, changes):
    """A missing or unreadable field, or a fingerprint that is not that of the leaves, is refused."""
    tampered(saved, **changes)
    with pytest.raises(DataError, match=r"whole signature|was changed since"):
        rs.load_state(saved)


@pytest.mark.parametrize("names", [["lstm/h"], [*LEAVES, "more"], ["gru/h", "lstm/c", "conv/h", 7], list(LEAVES)[::-1]])
def test_leaves_that_are_not_those_listed_are_refused(saved, names):
    """Leaves missing, added, renamed or in another order than they were written in are refused."""
    tampered(saved, leaves=json.dumps(names))
    with pytest.raises(DataError, match="was changed since"):
        rs.load_state(saved)


def test_an_unwritable_place_leaves_nothing_behind(tmp_path):
    """A folder that does not exist, or is none, raises, and nothing is left anywhere."""
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "state", tmp_path / "file" / "state", tmp_path / "folder"):
        with pytest.raises(OSError, match=path.name):
            rs.save_state(path, some_state())
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(saved, monkeypatch, fails):
    """If the disk is full or the move fails, the old file is as it was, and nothing else is left."""
    before = saved.read_bytes()

    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"):
        rs.save_state(saved, some_state(rows=2))
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_what_cannot_be_written_is_refused_before_anything_is(saved):
    """A state whose leaves disagree, or metadata that JSON cannot hold, leaves the old file as it was."""
    before = saved.read_bytes()
    with pytest.raises(StateShapeError, match="same number of rows"):
        rs.save_state(saved, {"h": np.ones((3, 5)), "c": np.ones((2, 5))})
    for odd, text in (
        ({"when": object()}, "not JSON serializable"),
        ({"of": [{1: 2}]}, r"must be text. Received: 1 \(int\)"),
        (["a"], "must be a mapping of names to values. Received: list"),
    ):
        with pytest.raises(TypeError, match=text):
            rs.save_state(saved, some_state(), metadata=odd)
    with pytest.raises(StateStructureError, match="must not be named `__metadata__`"):
        rs.save_state(saved, {"__metadata__": np.ones((3, 5))})
    assert saved.read_bytes() == before


def test_files_are_opened_without_keras(saved):
    """Reading and writing a file starts neither Keras nor a backend."""
    program = """
import sys
import rnnstate as rs
state = rs.load_state(sys.argv[1])
rs.save_state(sys.argv[1] + "2", state.rows([2, 0]))
heavy = {"keras", "jax", "torch", "tensorflow"} & set(sys.modules)
print(sorted(heavy), state.batch_size)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(rs.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", program, str(saved)], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout == "[] 3\n"
    assert rs.load_state(f"{saved}2") == some_state().rows([2, 0])
