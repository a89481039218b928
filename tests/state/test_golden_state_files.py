"""State files of every format version stay readable; converted there and back, a state is the same bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nets
import rnnstate as rs
from rnnstate.cli.state_commands import convert_state, describe_state, diff_states, read_any
from rnnstate.errors import DataError
from rnnstate.state import files
from rnnstate.state.formats import write_any

pytestmark = pytest.mark.once

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {
    "state_v1": {"lstm/h": (3, 5), "lstm/c": (3, 5), "encoder/conv/h": (3, 7, 2)},
    "state_v1_halves": {"gru/h": (2, 3)},
    "state_v1_no_rows": {"gru/h": (0, 3)},
    "state_v1_hashed": {"rnn/0/h": (2, 3), "bidirectional/forward/c": (2, 5)},
    "state_v2": {"rnn/0/h": (2, 3), "encoder/conv/c": (2, 5, 2)},
}
DTYPES = {
    "state_v1": "float32",
    "state_v1_halves": "float16",
    "state_v1_no_rows": "float64",
    "state_v1_hashed": "float32",
    "state_v2": "float32",
}


def golden(name):
    """Return the path of a golden file."""
    return GOLDEN / f"{name}.safetensors"


def leaf(index, shape, dtype):
    """Return the values that the golden files were written with."""
    return (np.arange(np.prod(shape)).reshape(shape) / 8 - index).astype(dtype)


@pytest.mark.parametrize("name", FILES)
def test_golden_files_load(name):
    """A file of an earlier release has its leaves, their order, dtypes and values, bit for bit."""
    state = rs.load_state(golden(name))
    assert list(state) == list(FILES[name])
    for index, (path, shape) in enumerate(FILES[name].items()):
        assert state[path].dtype == DTYPES[name]
        assert np.array_equal(state[path], leaf(index, shape, DTYPES[name]))


def test_golden_metadata():
    """What the user had added is still there."""
    assert files.load_metadata(golden("state_v1")) == {"keys": ["a", "b", "c"], "note": "Grüße", "step": 11}
    assert files.load_metadata(golden("state_v1_hashed")) == {"keys": [7, "b"]}
    assert files.load_metadata(golden("state_v2")) == {"keys": [7, "b"], "note": "Grüße"}


def test_golden_versions():
    """A file names the libraries that it was written with; the first ones name this package alone."""
    assert list(files.load_versions(golden("state_v1"))) == ["rnnstate"]
    assert files.load_versions(golden("state_v1_hashed"))["keras"] == "3.15.1"


def test_golden_signature():
    """The signature is that of format 1, readable as plain JSON by any program."""
    content = golden("state_v1").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    signature = header["__metadata__"]
    assert (signature["format"], signature["format_version"]) == ("rnnstate", "1")
    assert json.loads(signature["leaves"]) == list(FILES["state_v1"])
    assert signature["fingerprint"] == rs.load_state(golden("state_v1")).spec.fingerprint


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("name", FILES)
def test_there_and_back(tmp_path, name, suffix):
    """Converted to another format and back, a file holds the same state and metadata."""
    other, back = tmp_path / f"state{suffix}", tmp_path / "back.safetensors"
    convert_state(golden(name), other)
    convert_state(other, back)
    assert diff_states(golden(name), back) == (["The states are equal, bit for bit."], False)
    assert list(rs.load_state(back)) == list(FILES[name])
    assert files.load_metadata(back) == files.load_metadata(golden(name))


def test_arrays_of_someone_else(tmp_path):
    """A plain `.npz` of floats becomes a state, in the order in which it was written."""
    h, c = nets.values(3, 5), nets.values(3, 5, seed=1)
    np.savez(tmp_path / "theirs.npz", **{"lstm/h": h, "lstm/c": c})
    assert convert_state(tmp_path / "theirs.npz", tmp_path / "ours.safetensors") == {"lstm/h": h, "lstm/c": c}


def test_diff_says_which_leaf_and_how_far(tmp_path):
    """A leaf that differs is named with its rows and the largest distance; the others are not."""
    state = rs.load_state(golden("state_v1"))
    h = state["lstm/h"].copy()
    h[1, 3] += 0.25
    rs.save_state(tmp_path / "moved.safetensors", state.replace(**{"lstm/h": h}))
    lines, differs = diff_states(golden("state_v1"), tmp_path / "moved.safetensors")
    assert differs
    assert lines == ["lstm/h: up to 0.25 apart, in 1 of 3 rows (1)"]


def test_diff_of_other_leaves():
    """Leaves that only one file has are named with the file."""
    lines, differs = diff_states(golden("state_v1"), golden("state_v1_halves"))
    assert differs
    assert len(lines) == 4
    assert lines[-1].startswith("gru/h: only in")
    assert lines[-1].endswith("state_v1_halves.safetensors")


def test_diff_of_shapes(tmp_path):
    """Leaves of other shapes are told by their shapes."""
    rs.save_state(tmp_path / "rows.safetensors", {"gru/h": np.zeros((3, 3), "float16")})
    lines, _ = diff_states(golden("state_v1_halves"), tmp_path / "rows.safetensors")
    assert lines == ["gru/h: (2, 3) float16 against (3, 3) float16"]


def test_inspect_shows_leaves_and_metadata():
    """Every leaf is shown with shape, dtype and range, and so is the metadata."""
    lines = describe_state(golden("state_v1"))
    assert lines[0].startswith("State of 3 rows, spec ")
    assert lines[1] == "lstm/h  (3, 5)  float32  0 to 1.75"
    assert 'keys: ["a", "b", "c"]' in lines


def test_commands_start_no_backend():
    """Inspecting a file imports neither Keras nor a backend."""
    program = (
        "import sys; from pathlib import Path; from rnnstate.cli.state_commands import describe_state\n"
        f"describe_state(Path({str(golden('state_v1'))!r}))\n"
        "print(sorted({'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unreadable_files_are_refused(tmp_path):
    """Truncated files, arrays of objects, integers and unknown suffixes are errors that name the file."""
    whole = tmp_path / "state.npz"
    convert_state(golden("state_v1"), whole)
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:100])
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    np.savez(tmp_path / "objects.npz", h=np.array([{}], dtype=object))
    for name in ("cut.npz", "cut.h5", "objects.npz"):
        with pytest.raises(DataError, match=rf"must be whole. Received: `.*{name}`"):
            read_any(tmp_path / name)
    np.savez(tmp_path / "counts.npz", n=np.arange(3))
    with pytest.raises(DataError, match=r"array of floats.*`n` is int64 with shape \(3,\)"):
        read_any(tmp_path / "counts.npz")
    with pytest.raises(DataError, match=r"one of `.safetensors`, `.npz`, `.h5`. Received: `.*state.bin`"):
        read_any(tmp_path / "state.bin")
    with pytest.raises(FileNotFoundError):
        read_any(tmp_path / "none.npz")


def test_files_that_lost_a_leaf_are_refused(tmp_path):
    """A signed file whose leaves are not those it lists is an error, never a partial load."""
    source = tmp_path / "state.npz"
    convert_state(golden("state_v1"), source)
    with np.load(source) as file:
        kept = {name: file[name] for name in file.files if name != "lstm/c"}
    np.savez(source, **kept)
    with pytest.raises(
        DataError, match=r"leaves that it was written with, `lstm/h`, `lstm/c`.*Received: `.*state.npz`"
    ):
        read_any(source)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_changed_value_of_another_format_is_refused(tmp_path, suffix):
    """The checksum of a converted file covers values and metadata; files of release 0.1.0 have none and load."""
    path = tmp_path / f"state{suffix}"
    state = rs.State({"gru/h": nets.values(3, 5)})
    for changes in ({}, {"sha256": None}, {"metadata": {"step": 8}}):
        write_any(path, state, {"step": 7})
        assert read_any(path) == (state, {"step": 7})
        added = float(not changes)
        resign(path, changes, state.map(lambda value, added=added: value + added))
        if "sha256" in changes:
            assert read_any(path)[1] == {"step": 7}
            continue
        with pytest.raises(DataError, match=r"must be as it was written.*was changed since"):
            read_any(path)
    with pytest.raises(DataError, match=r"array of floats with a row per sample.*`n` is int64"):
        write_any(path, rs.State({"n": np.zeros((2, 3), "int64")}), {})


def resign(path, changes, state):
    """Change the values and the signature of a `.npz` or `.h5` file; `None` takes a field away."""
    name = "__rnnstate__"
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path, "r+") as file:
            file.attrs[name] = signed(file.attrs[name], changes)
            for leaf, value in state.items():
                file[leaf][...] = value
        return
    with np.load(path) as file:
        text = signed(str(file[name]), changes)
    np.savez(path, **{name: np.array(text)}, **state)


def signed(text, changes):
    """Return a changed signature."""
    return json.dumps({key: value for key, value in (json.loads(text) | changes).items() if value is not None})


def test_an_existing_file_is_not_replaced(tmp_path):
    """Converting onto a file that exists needs `force`."""
    target = tmp_path / "state.npz"
    target.write_text("mine")
    with pytest.raises(DataError, match="must not exist yet"):
        convert_state(golden("state_v1"), target)
    assert target.read_text() == "mine"
    convert_state(golden("state_v1"), target, force=True)
    assert read_any(target)[0].batch_size == 3


def test_h5_needs_an_extra(monkeypatch, tmp_path):
    """Without h5py the message names the command that installs it."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r'pip install "rnnstate\[h5\]"'):
        convert_state(golden("state_v1"), tmp_path / "state.h5")


def test_diff_of_equal_numbers_in_other_bits(tmp_path):
    """Zeros of another sign differ, and the line says how."""
    for name, zero in (("plus", 0.0), ("minus", -0.0)):
        files.save_state(tmp_path / f"{name}.safetensors", {"gru/h": np.full((2, 3), zero, "float32")})
    lines, differs = diff_states(tmp_path / "plus.safetensors", tmp_path / "minus.safetensors")
    assert (lines, differs) == (["gru/h: equal numbers in other bits, such as 0.0 and -0.0"], True)
