"""Laws of several processes: they give the result of one, and a process that ends leaves a run that others continue."""

import json
import os
import sys

import numpy as np
import pytest

import ranked
import rnnstate as rs
from rnnstate.cli.app import main
from rnnstate.scale.launch import launch

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def alone():
    """Return what one process knows after training."""
    return ranked.known(*ranked.fitted())


def difference(one, other):
    """Return the largest difference of arrays by name."""
    assert set(one) == set(other)
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_processes_give_the_result_of_one(backend, alone, request):
    """Losses, metrics, weights, states, scores and outputs are those of one process, which can continue the run.

    On JAX the fast loops stay on, and two steps are one compiled call. On PyTorch, three processes have continued what two
    began, of which one was killed.
    """
    if backend == "tensorflow":
        with pytest.raises(rs.UnsupportedModelError, match=r"JAX and on PyTorch.*=tensorflow.*`MirroredStrategy`"):
            rs.scale.initialize("127.0.0.1:1", rank=0, ranks=2)
        return
    out = request.getfixturevalue("out_of_ranks")
    ranks = [dict(np.load(path)) for path in sorted(out.glob("[0-9].npz"))]
    assert len(ranks) == (3 if backend == "torch" else 2)
    assert max(difference(alone, one) for one in ranks) < TOLERANCE
    if backend == "jax":
        assert [int(path.read_text()) > 0 for path in out.glob("native-loops-*")] == [True, True]
    checkpoint = out.with_name("checkpoints")
    max(checkpoint.iterdir()).unlink()  # the run then stands in the middle of its last epoch
    assert difference(alone, ranked.known(*ranked.fitted(checkpoint, [ranked.Dies(-1, 0)]))) < TOLERANCE


def test_the_command_line(backend, tmp_path, capfd, monkeypatch):
    """`rnnstate train --processes 2` leaves the RUN of one process, and only rank 0 says something."""
    if backend != "torch":
        pytest.skip("the command is the same on all backends, and PyTorch starts in the shortest time")
    (tmp_path / "tensorflow.py").write_text("raise ModuleNotFoundError")  # Keras would import it, which takes seconds
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    rows = "\n".join(f"{key},{step},{np.sin(step + key):.4f}" for key in range(3) for step in range(60))
    (tmp_path / "waves.csv").write_text(f"key,step,load\n{rows}\n")
    options = "--target load --key key --time step --window 5 --layers gru:3 --epochs 1 --batch-size 3 --no-report"
    losses = []
    for out, more in (("one.run", []), ("two.run", ["--processes", "2"])):
        command = ["train", str(tmp_path / "waves.csv"), "--out", str(tmp_path / out), *options.split(), *more]
        assert main(command) == 0
        losses.append(json.loads((tmp_path / out / "history.json").read_text()))
    assert losses[0].keys() == losses[1].keys()
    assert all(np.allclose(losses[0][name], losses[1][name], atol=TOLERANCE) for name in losses[0])
    assert capfd.readouterr().err.count("Network: ") == 2
    assert main(["train", "-", "--target", "x", "--out", str(tmp_path / "no.run"), "--processes", "2"]) == 2
    assert "DATA must be a file" in capfd.readouterr().err
    for processes in ("0", "100000"):  # nothing is started
        assert main([*command[:-1], processes]) == 2
        assert f"Error: --processes must be from 1 to {max(8, 2 * os.cpu_count())}" in capfd.readouterr().err


def test_devices_of_one_process(backend, tmp_path, monkeypatch):
    """`keras.distribution.DataParallel` on four devices of one process gives the result of one device."""
    if backend != "jax":
        pytest.skip("only JAX has `keras.distribution`")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    launch([sys.executable, ranked.__file__, str(tmp_path), "devices"], 1)
    known = dict(np.load(tmp_path / "0.npz"))
    assert known.pop("devices") == 4
    assert known.pop("native_loops") == 0  # the control: `keras.distribution` switches them off
    alone = ranked.known(*ranked.fitted(rows=4, validation_rows=4), rows=4)
    assert difference(alone, known) < TOLERANCE
