"""RUN: written whole or not at all, checked when read, and the states in it are where the keys stand."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import rnnstate as rs
from forecasting import GAP, TINY, TRAIN, rows, write_rows
from rnnstate.cli.app import main
from rnnstate.errors import DataError
from rnnstate.forecasting.run_folder import FILES, new_run, read_run
from rnnstate.forecasting.series import read_series
from rnnstate.forecasting.tablefiles import read_table

pytestmark = pytest.mark.once

ROWS = 61


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A RUN of two houses."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_rows(folder / "data.csv", rows(0, ROWS))
    assert main(["train", data, *TRAIN, *TINY, "--out", str(folder / "RUN")]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of that RUN to damage."""
    return Path(shutil.copytree(trained / "RUN", tmp_path / "RUN"))


def test_run_is_complete(trained) -> None:
    """RUN holds its files and nothing else, with the command, versions, scaling and test errors."""
    assert sorted(path.name for path in (trained / "RUN").iterdir()) == sorted(FILES)
    info = json.loads((trained / "RUN" / "run.json").read_text())
    assert info["command"][:2] == ["rnnstate", "train"]
    assert {"rnnstate", "keras", "backend", "python"} <= set(info["versions"])
    assert (info["inputs"], info["seed"]) == (["load", "warmth"], 0)
    assert len(info["test"]["errors"]) == 3
    assert len(json.loads((trained / "RUN" / "history.json").read_text())["val_loss"]) == 1


def test_kept_states_are_where_the_keys_stand(trained) -> None:
    """The kept states equal one pass of `step` over the last gapless rows, up to the end and to the training part's."""
    run = read_run(trained / "RUN")
    table = read_table(str(trained / "data.csv"))
    for row, series in enumerate(read_series(table, run.settings.columns)):
        for standing, high in ((run.end, ROWS), (run.middle, round(0.7 * ROWS))):
            x = run.scaling.scale(series.values[GAP + 1 : high]).astype("float32")
            _, state = run.model.step(x[None], run.model.initial_state(1))
            assert standing.places[row].key == series.key
            assert (
                standing.places[row].time
                == str(np.datetime64("2020-02-28T22:00") + 15 * (high - 1)).replace("T", " ") + ":00"
            )
            assert standing.places[row].open
            for name, leaf in state.numpy().items():
                np.testing.assert_allclose(standing.state[name][row : row + 1], leaf, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_exporting_a_run(trained, tmp_path, scaled) -> None:
    """An exported RUN predicts what its model predicts; with its scaling inside, from the data as they are."""
    run = read_run(trained / "RUN")
    assert main(["export", str(trained / "RUN"), str(tmp_path / "m.keras"), *["--scaled"] * scaled]) == 0
    manifest = json.loads((tmp_path / "m.keras.json").read_text())
    assert manifest["metadata"]["inputs"] == ["load", "warmth"]
    assert (manifest["metadata"]["targets"], manifest["metadata"]["horizon"]) == (["load"], run.settings.horizon)
    assert manifest["metadata"]["scaling"] == {
        "included": scaled,
        "mean": run.scaling.mean.tolist(),
        "std": run.scaling.std.tolist(),
    }
    assert [leaf["leaf"] for leaf in manifest["state"]] == list(run.model.state_spec)
    assert manifest["fingerprint"] == run.model.state_spec.fingerprint
    raw = read_series(read_table(str(trained / "data.csv")), run.settings.columns)[0].values[GAP + 1 :]
    state = {leaf["input"]: run.end.state[leaf["leaf"]][:1] for leaf in manifest["state"]}
    expected, _ = run.model.step(run.scaling.scale(raw)[None].astype("float32"), run.end.state.rows([0]))
    expected = keras.ops.convert_to_numpy(expected)
    given = raw if scaled else run.scaling.scale(raw)
    found = keras.saving.load_model(tmp_path / "m.keras").predict({"x": given[None], **state}, verbose=0)["y"]
    wanted = run.scaling.unscale(expected) if scaled else expected
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.abs(run.scaling.unscale(expected) - expected).max() > 1


def test_scaling_needs_a_run(trained, tmp_path, capsys) -> None:
    """A `.keras` file alone does not know the scaling."""
    assert main(["export", str(trained / "RUN" / "model.keras"), str(tmp_path / "m.keras"), "--scaled"]) == 2
    assert "`--scaled` needs a RUN, which knows its scaling. Received: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES[1:])
def test_missing_file(run, name: str) -> None:
    """A RUN that lacks a file is refused by its name."""
    (run / name).unlink()
    with pytest.raises(DataError, match=f"Received: .* without `{name}`. Copy the whole folder again"):
        read_run(run)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file(run, name: str) -> None:
    """A file that is cut off is refused by its name."""
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=name):
        read_run(run)


def test_other_format(run) -> None:
    """A RUN of another format is refused."""
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "format": 7}))
    with pytest.raises(DataError, match=r"must be a RUN of format 2. Received: format 7"):
        read_run(run)


def test_lacking_entry(run) -> None:
    """A run.json that lacks an entry is refused by its name."""
    info = json.loads((run / "run.json").read_text())
    del info["scaling"]
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"as `rnnstate train` wrote them. Received: KeyError\('scaling'\)"):
        read_run(run)


def test_states_of_other_keys(run) -> None:
    """States and keys must be of one number."""
    file = run / "states.safetensors"
    metadata = rs.load_metadata(file)
    rs.save_state(file, rs.load_state(file), {**metadata, "keys": metadata["keys"][:1]})
    with pytest.raises(DataError, match=r"states.safetensors must hold 1 rows, one for each key. Received: 2"):
        read_run(run)


@pytest.mark.parametrize(("name", "what"), [("empty", "a folder without run.json"), ("none", "no folder")])
def test_no_run(tmp_path, name: str, what: str) -> None:
    """What is no RUN is refused."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"must be a folder that `rnnstate train` made. Received: .*{name}, {what}"):
        read_run(tmp_path / name)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failing_body_leaves_nothing(tmp_path, error) -> None:
    """Whatever ends the body, no RUN and no temporary folder stays."""
    with pytest.raises(error), new_run(tmp_path / "RUN") as folder:  # noqa: PT012
        (folder / "run.json").write_text("{}")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_replacing(tmp_path) -> None:
    """A RUN is replaced only with `force`, and only once the new one is whole."""
    path = tmp_path / "RUN"
    for text in ("old", "new"):
        with new_run(path, force=True) as folder:
            (folder / "run.json").write_text(text)
            assert not path.exists() or (path / "run.json").read_text() == "old"
    assert (path / "run.json").read_text() == "new"
    with (
        pytest.raises(DataError, match=r"must not exist yet. Received: .*RUN. Give another name, or --force"),
        new_run(path),
    ):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["RUN"]


def test_force_spares_what_is_no_run(tmp_path) -> None:
    """`force` never removes a folder that is no RUN."""
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"replaces a RUN only. Received: .*photos"), new_run(tmp_path / "photos", True):
        pass
    assert (tmp_path / "photos").is_dir()


def test_no_place_for_a_run(tmp_path) -> None:
    """A place that cannot be written is refused at once, parents are made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="must be a folder that can be made"), new_run(tmp_path / "file" / "RUN"):
        pass
    with new_run(tmp_path / "a" / "b" / "RUN"):
        pass
    assert (tmp_path / "a" / "b" / "RUN").is_dir()
