"""The dataset: shapes that never change, masks, targets, pieces, and the way back to time order."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.windows.windows import Windows

RNG = np.random.default_rng(5)
SIZE = st.integers(1, 13)


def series(lengths, features=2, seed=0):
    """Return one random sequence for each length; no value is zero, so padding shows."""
    rng = np.random.default_rng(seed)
    return {f"k{i}": rng.uniform(1, 2, size=(n, features)).astype("float32") for i, n in enumerate(lengths)}


@pytest.mark.once
@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), SIZE, SIZE)
@settings(deadline=None, max_examples=60)
def test_assemble_gives_back_the_data(lengths, length, batch_size):
    """Assembling the windows that were handed out is the data; shapes never change and masks are the valid steps."""
    data = series(lengths)
    windows = Windows(data, length=length, batch_size=batch_size)
    batches = [inputs for (inputs,) in windows]
    assert len(batches) == len(windows)
    for inputs in batches:
        assert inputs["x"].shape == (windows.batch_size, length, 2)
        assert inputs["slot"].dtype == np.int32
        assert inputs["first"].dtype == bool
        valid = inputs["mask"] if "mask" in inputs else np.ones(inputs["x"].shape[:2], dtype=bool)
        np.testing.assert_array_equal(valid, inputs["x"].all(axis=-1))
        np.testing.assert_array_equal(valid.any(axis=1), inputs["slot"] >= 0)
    assert len({frozenset(inputs) for inputs in batches}) == 1
    back = windows.assemble(inputs["x"] for inputs in batches)
    assert list(back) == list(data)
    for key, rows in data.items():
        np.testing.assert_array_equal(back[key], rows)


@pytest.mark.once
def all_parts(windows):
    """Return all arrays of all batches of an epoch."""
    return [part for inputs, *rest in windows for part in [inputs["x"], inputs["slot"], *rest]]


@pytest.mark.once
@given(st.integers(1, 7), st.integers(1, 30), SIZE, SIZE, st.integers(0, 3), st.booleans())
@settings(deadline=None, max_examples=60)
def test_one_array_gives_the_batches_of_a_list(sequences, steps, length, batch_size, horizon, before):
    """One array for all sequences is copied in blocks, a list row by row. Both give the same batches, with new arrays."""
    rng = np.random.default_rng(steps)
    x, y = (rng.uniform(1, 2, (sequences, steps + horizon, values)) for values in (2, 3))
    options = {"length": length, "batch_size": batch_size, "horizon": horizon, "back": length + 2 if before else None}
    whole, rows = Windows(x, y, **options), Windows([*x], [*y], **options)
    for one, other in zip(all_parts(whole), all_parts(rows), strict=True):
        assert one.dtype == other.dtype
        assert one.flags.c_contiguous
        np.testing.assert_array_equal(one, other)
        assert not np.shares_memory(one, x)
    # The control: other values.
    later = Windows(x + 1, y, **options)
    assert any((one != other).any() for one, other in zip(all_parts(later), all_parts(rows), strict=True))


def test_no_mask_without_padding():
    """There is a mask only where a dataset needs one."""
    assert "mask" not in Windows(np.ones((3, 6, 2)), length=2, batch_size=3)[0][0]
    assert "mask" in Windows(np.ones((3, 6, 2)), length=4, batch_size=3)[0][0]
    assert "mask" in Windows(np.ones((3, 6, 2)), length=2, batch_size=2)[0][0]


@pytest.mark.once
def test_one_batch_by_hand():
    """A small dataset is what one would write by hand."""
    windows = Windows([np.arange(1, 6), np.arange(11, 13)], length=3, batch_size=2)
    inputs = windows[1][0]
    assert windows[0][0]["x"].tolist() == [[1, 2, 3], [11, 12, 0]]
    assert inputs["x"].tolist() == [[4, 5, 0], [0, 0, 0]]
    assert inputs["slot"].tolist() == [0, -1]
    assert inputs["first"].tolist() == [False, True]
    assert inputs["mask"].tolist() == [[True, True, False], [False, False, False]]


@pytest.mark.once
def test_attributes_and_repr():
    """A dataset tells its keys, lengths and sizes; its rows are at most its sequences."""
    windows = Windows(series([500, 400, 61, 29, 23]), length=24, batch_size=8)
    assert windows.keys == ("k0", "k1", "k2", "k3", "k4")
    assert windows.lengths.tolist() == [500, 400, 61, 29, 23]
    assert (windows.length, windows.batch_size, windows.order, windows.targets) == (24, 5, "lanes", None)
    assert repr(windows) == "Windows(5 sequences, 1013 steps, 21 batches of 5 x 24, order='lanes')"
    assert repr(Windows(np.ones((1, 2)), length=1, batch_size=1)) == (
        "Windows(1 sequence, 1 step, 1 batch of 1 x 1, order='lanes')"
    )


@pytest.mark.once
def test_index():
    """Batches are counted from either end, and there are no others."""
    windows = Windows(np.ones((7, 2)), length=3, batch_size=1)
    assert windows[-1][0]["mask"].tolist() == windows[2][0]["mask"].tolist()
    for index in (3, -4):
        with pytest.raises(IndexError, match=rf"Batch index must be below 3. Received: {index}"):
            windows[index]


@pytest.mark.once
def test_dtypes():
    """Floats of any width and booleans become `floatx`, integers int32."""
    x = {"f": np.ones((2, 5, 3)), "t": np.ones((2, 5), dtype="int64"), "b": np.ones((2, 5, 1), dtype=bool)}
    batch = Windows(x, np.ones((2, 5, 1), dtype="float16"), length=2, batch_size=2)[0]
    assert {name: str(part.dtype) for name, part in batch[0]["x"].items()} == {
        "f": "float32",
        "t": "int32",
        "b": "float32",
    }
    assert str(batch[1].dtype) == "float32"


@pytest.mark.once
def test_batches_are_copies():
    """Whoever changes a batch does not change the data."""
    data = np.ones((4, 1), dtype="float32")
    Windows(data, length=2, batch_size=1)[0][0]["x"][:] = 7
    assert (data == 1).all()


@pytest.mark.once
def test_static_inputs_go_whole_to_each_window():
    """A static input is given whole to each window of its sequence, zeros to empty rows."""
    profile = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    windows = Windows({"a": [np.ones((5, 2)), np.ones((2, 2))], "profile": profile}, length=3, batch_size=2)
    assert windows[0][0]["x"]["profile"].tolist() == profile.tolist()
    assert windows[1][0]["x"]["profile"].tolist() == [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]


@pytest.mark.once
def test_inputs_outputs_and_weights_by_name():
    """Several inputs, outputs and weights keep their names and stay in step."""
    x = {"a": RNG.normal(size=(3, 7, 2)), "b": RNG.normal(size=(3, 7, 1))}
    y = {"p": RNG.normal(size=(3, 7, 4)), "q": RNG.integers(0, 9, size=(3, 7))}
    weight = {"p": RNG.uniform(size=(3, 7)), "q": RNG.uniform(size=(3, 7))}
    windows = Windows(x, y, sample_weight=weight, length=3, batch_size=2)
    for part, data in ((0, x), (1, y), (2, weight)):
        outputs = [batch[part]["x"] if part == 0 else batch[part] for batch in windows]
        for key, sequence in windows.assemble(outputs).items():
            for name, rows in sequence.items():
                np.testing.assert_array_equal(rows, data[name][key].astype(rows.dtype))


@pytest.mark.once
def test_targets_auto():
    """As many entries as steps are per step, as many as windows are per window, both is per step."""
    x = {"a": np.ones((7, 2)), "b": np.ones((4, 2))}
    steps = {"a": np.ones((7, 1)), "b": np.ones((4, 1))}
    windows = {"a": np.ones((3, 1)), "b": np.ones((2, 1))}
    assert Windows(x, steps, length=3, batch_size=2).targets == "steps"
    assert Windows(x, windows, length=3, batch_size=2).targets == "windows"
    assert Windows(x, steps, length=1, batch_size=2).targets == "steps"
    assert Windows(x, steps, length=1, batch_size=2, targets="windows").targets == "windows"


@pytest.mark.once
def test_targets_of_different_kinds():
    """Each output is resolved by itself."""
    y = {"each": np.ones((2, 6, 1)), "whole": np.ones((2, 3, 5))}
    windows = Windows(np.ones((2, 6, 1)), y, length=2, batch_size=2)
    assert windows.targets == {"each": "steps", "whole": "windows"}
    assert {name: part.shape for name, part in windows[0][1].items()} == {"each": (2, 2, 1), "whole": (2, 5)}


@pytest.mark.once
def test_targets_per_window():
    """A target per window comes with its window, weights too, and goes back in order."""
    y = {"a": np.array([[1.0], [2.0], [3.0]]), "b": np.array([[4.0]])}
    weight = {"a": np.array([0.1, 0.2, 0.3]), "b": np.array([0.4])}
    windows = Windows({"a": np.ones((7, 2)), "b": np.ones((2, 2))}, y, sample_weight=weight, length=3, batch_size=2)
    assert [batch[1].tolist() for batch in windows] == [[[1.0], [4.0]], [[2.0], [0.0]], [[3.0], [0.0]]]
    assert windows[1][2].tolist() == [np.float32(0.2), 0.0]
    back = windows.assemble((batch[1] for batch in windows), per_step=False)
    assert {key: rows.tolist() for key, rows in back.items()} == {key: rows.tolist() for key, rows in y.items()}


@pytest.mark.once
def test_targets_last():
    """`last` takes the target of the last valid step of each window."""
    steps = np.arange(1.0, 8.0)
    windows = Windows(np.ones((7, 2)), steps, sample_weight=steps / 10, length=3, batch_size=1, targets="last")
    assert [batch[1].tolist() for batch in windows] == [[3.0], [6.0], [7.0]]
    assert [round(float(batch[2][0]), 3) for batch in windows] == [0.3, 0.6, 0.7]


@pytest.mark.once
def test_pieces_fill_a_batch():
    """One long sequence is cut into contiguous pieces, each a sequence of its own."""
    x = np.arange(1, 12)
    windows = Windows(x, x * 10, sample_weight=x / 2, length=2, batch_size=4, pieces=3)
    assert windows.keys == ((0, 0), (0, 1), (0, 2))
    assert windows.lengths.tolist() == [3, 4, 4]
    assert windows[0][0]["x"].tolist() == [[1, 2], [4, 5], [8, 9]]
    assert windows[0][0]["first"].all()
    for part, factor in ((1, 10), (2, 0.5)):
        back = windows.assemble(batch[part] for batch in windows)
        np.testing.assert_array_equal(np.concatenate(list(back.values())), x * factor)


@pytest.mark.once
def test_pieces_of_several_sequences_and_static():
    """Every sequence is cut, and its static input goes with each piece."""
    x = {"u": {"a": np.ones((6, 1)), "s": np.array([1.0, 2.0])}, "v": {"a": np.ones((5, 1)), "s": np.array([3.0, 4.0])}}
    windows = Windows(x, length=3, batch_size=4, pieces=2)
    assert windows.keys == (("u", 0), ("u", 1), ("v", 0), ("v", 1))
    assert windows[0][0]["x"]["s"].tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


@pytest.mark.once
def test_pieces_with_targets_per_window():
    """Targets per window are counted piece by piece, and refused where they could mean two things."""
    x = np.ones((12, 1))
    same = Windows(x, np.arange(4.0), length=3, batch_size=2, pieces=2)
    assert [batch[1].tolist() for batch in same] == [[0, 2], [1, 3]]
    counted = Windows(x, np.arange(6.0), length=3, batch_size=3, pieces=3)
    assert [batch[1].tolist() for batch in counted] == [[0, 2, 4], [1, 3, 5]]
    with pytest.raises(DataError, match=r"windows of the sequence or of its pieces.*pass `targets='last'`"):
        Windows(np.ones((9, 1)), np.ones(3), length=4, batch_size=3, pieces=3)


REFUSED = [
    (
        {"y": np.ones(6)},
        r"`y` must have 7 entries \(one for each step\) or 3 entries \(one for each window of 3\) in sequ",
    ),
    (
        {"y": np.ones(3), "targets": "steps"},
        r"`y` must have 7 entries \(one for each step\) in sequence 0. Received: 3",
    ),
    ({"y": np.ones(7), "targets": "windows"}, r"`y` must have 3 entries \(one for each window of 3\).*Received: 7"),
    ({"y": np.ones(3), "targets": "last"}, r"`y` must have 7 entries \(one for each step\) in sequence 0. Received: 3"),
    ({"y": np.ones(6), "pieces": 2}, r"With `pieces`, give one target for each step and pass `targets='last'`"),
    (
        {"targets": "first"},
        r"`targets` must be one of 'auto', 'steps', 'windows', 'last', 'sequence'. Received: targets='first'",
    ),
    ({"sample_weight": np.ones(7)}, r"`sample_weight` weighs targets. Received: no `y`"),
    (
        {"y": np.ones(7), "sample_weight": np.ones((7, 1))},
        r"one number for each entry of `y`. Received: an array of shape",
    ),
    ({"y": np.ones(7), "sample_weight": np.ones(6)}, r"`sample_weight` must have 7 entries.*Received: 6"),
    ({"y": {"p": np.ones(7)}, "sample_weight": {"q": np.ones(7)}}, r"must have the names of `y`: 'p'. Received: 'q'"),
    ({"pieces": 8}, r"`pieces` must be at most the steps.*Received: pieces=8, but sequence 0 has 7 steps"),
    ({"pieces": 1.5}, r"`pieces` must be a whole number of at least 1. Received: pieces=1.5"),
    ({"length": 0}, r"`length` must be a whole number of at least 1. Received: length=0"),
    ({"batch_size": "4"}, r"`batch_size` must be a whole number of at least 1. Received: batch_size='4'"),
    ({"order": "random"}, r"`order` must be one of 'lanes', 'shuffled', 'buckets'. Received: order='random'"),
    ({"workers": 2}, r"`workers` must be 0 or 1.*Received: workers=2.*wrong windows"),
    ({"use_multiprocessing": True}, r"`workers` must be 0 or 1.*use_multiprocessing=True"),
]


@pytest.mark.once
@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=range(len(REFUSED)))
def test_refused(arguments, text):
    """Arguments that make no dataset are refused with what was received."""
    with pytest.raises(DataError, match=text):
        Windows(np.ones((7, 2)), **{"length": 3, "batch_size": 2, **arguments})


@pytest.mark.once
def test_mixed_kinds_of_targets():
    """Targets per step in one sequence and per window in another are refused."""
    with pytest.raises(DataError, match=r"in sequence 'b'. Received: 2 entries"):
        Windows({"a": np.ones(7), "b": np.ones(4)}, {"a": np.ones(7), "b": np.ones(2)}, length=3, batch_size=2)


@pytest.mark.once
def test_pieces_name_the_key():
    """A sequence too short for its pieces is named by key."""
    with pytest.raises(DataError, match=r"Received: pieces=4, but sequence 'b' has 3 steps"):
        Windows({"a": np.ones((9, 1)), "b": np.ones((3, 1))}, length=2, batch_size=2, pieces=4)


@pytest.mark.once
def test_workers_stay_refused():
    """Workers cannot be raised later either."""
    windows = Windows(np.ones((7, 2)), length=3, batch_size=2, workers=0)
    assert windows.workers == 0
    windows.workers = 1
    with pytest.raises(DataError, match=r"Received: workers=3"):
        windows.workers = 3
    assert windows.workers == 1


@pytest.mark.once
def test_assemble_structures():
    """Outputs may be nested and of both kinds; each key gets the structure of a batch."""
    windows = Windows(series([5, 2]), length=3, batch_size=2)
    outputs = [(inputs["x"], {"sum": inputs["x"].sum(axis=(1, 2))}) for (inputs,) in windows]
    back = windows.assemble(outputs, per_step=(True, {"sum": False}))
    x, sums = back["k0"]
    np.testing.assert_array_equal(x, series([5, 2])["k0"])
    np.testing.assert_allclose(sums["sum"], [x[:3].sum(), x[3:].sum()], rtol=1e-6)


def test_assemble_takes_backend_tensors():
    """Outputs of the backend come back as NumPy arrays."""
    windows = Windows(series([5, 2]), length=3, batch_size=2)
    back = windows.assemble(keras.ops.convert_to_tensor(inputs["x"]) for (inputs,) in windows)
    np.testing.assert_array_equal(back["k1"], series([5, 2])["k1"])


@pytest.mark.once
def test_assemble_refuses_what_is_no_batch():
    """Lost batches, extra batches, other shapes and wrong flags are refused."""
    windows = Windows(series([5, 2]), length=3, batch_size=2)
    outputs = [inputs["x"] for (inputs,) in windows]
    for wrong in (outputs[:1], outputs * 2, []):
        with pytest.raises(DataError, match=rf"`outputs` must hold 2 batches. Received: {len(wrong)}"):
            windows.assemble(wrong)
    with pytest.raises(DataError, match=r"`outputs` must have shape \(2, 3, ...\).*Received: \(2, 2\) in batch 1"):
        windows.assemble([outputs[0], outputs[1][:, 0]])
    with pytest.raises(DataError, match=r"`outputs` must have shape \(2, ...\).*Received: \(1, 3, 2\) in batch 0"):
        windows.assemble([output[:1] for output in outputs], per_step=False)
    with pytest.raises(DataError, match=r"`per_step` must have one answer, or one for each of 1 outputs. Received: 2"):
        windows.assemble(outputs, per_step=[True, False])


def test_keras_takes_the_batches():
    """`fit` and `predict` of a plain Keras model meet every batch once, in order."""
    windows = Windows(np.arange(1.0, 12.0)[:, None], np.ones((11, 1)), length=2, batch_size=3, pieces=3)
    inputs = {
        "x": keras.Input((2, 1), name="x"),
        "slot": keras.Input((), dtype="int32", name="slot"),
        "first": keras.Input((), dtype="bool", name="first"),
        "mask": keras.Input((2,), dtype="bool", name="mask"),
    }
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(inputs["x"]))
    met = model.predict(windows, verbose=0)
    np.testing.assert_allclose(met, np.concatenate([batch["x"] for batch, _ in windows]), rtol=1e-6)
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(windows, shuffle=False, verbose=0).history["loss"]).all()
