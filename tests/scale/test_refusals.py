"""What several processes cannot do the same as one is refused by name, before anything changes."""

import re
import sys

import keras
import numpy as np
import pytest

import ranked
import rnnstate as rs
from rnnstate.cli.app import LOST, TROUBLE, main
from rnnstate.kernels.ranks.group import Group, join
from rnnstate.scale import launch as launching
from rnnstate.scale.launch import launch

pytestmark = pytest.mark.once


@pytest.fixture
def two_ranks():
    """Let this process be rank 0 of two. Nothing here reaches the first exchange."""
    join(Group(0, 2))
    yield
    join(Group())


def model_of(layer, **kwargs):
    """Return a compiled model that ends in a layer."""
    model = rs.StatefulModel(
        keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(2, return_sequences=True), layer])
    )
    model.compile(**{"optimizer": "sgd", "loss": "mse", **kwargs})
    return model


@pytest.mark.parametrize(
    ("layer", "compiled", "message"),
    [
        ("BatchNormalization", {}, r"layer `bn` with `moving_mean`.*own rows\. Freeze it"),
        (
            "Dense",
            {"loss": keras.losses.MeanSquaredError(reduction="sum")},
            r"reduction='sum'.*Use 'sum_over_batch_size'",
        ),
        (
            "Dense",
            {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
            r"`LossScaleOptimizer`.*'mixed_bfloat16'",
        ),
    ],
)
def test_results_that_would_depend_on_the_number_of_processes(two_ranks, layer, compiled, message):
    """Moving averages, summed losses and loss scales would differ from those of one process."""
    layer = keras.layers.Dense(2) if layer == "Dense" else keras.layers.BatchNormalization(name="bn")
    model = model_of(layer, **compiled)
    before = model.get_weights()
    with pytest.raises(rs.UnsupportedModelError, match=f"not depend on their number. Received: .*{message}"):
        model.fit(ranked.make_windows(), verbose=0)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))


def test_batches_of_a_loop_are_refused(two_ranks):
    """A loop of one's own would train each process on all rows."""
    model, windows = ranked.make_model(), ranked.make_windows()
    with pytest.raises(rs.UnsupportedModelError, match=r"its own rows of a batch.*Received: `train_on_batch`"):
        model.train_on_batch(*windows[0])
    with pytest.raises(rs.UnsupportedModelError, match=r"`test_on_batch`"):
        model.test_on_batch(*windows[0])


def test_evaluation_per_sequence_is_refused(two_ranks):
    """The weights of such targets depend on the rows of all processes."""
    net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(2)])
    model = rs.StatefulModel(net)
    model.compile("sgd", "mse")
    windows = rs.Windows(np.ones((3, 5, 1)), np.ones((3, 2)), length=2, batch_size=3, targets="sequence")
    with pytest.raises(rs.UnsupportedModelError, match=r"targets='sequence'.*Call `predict`"):
        model.evaluate(windows, verbose=0)


def test_part_of_an_address_is_refused():
    """Address, rank and number belong together."""
    with pytest.raises(rs.DataError, match=r"belong together\. Received: no `ranks`"):
        rs.scale.initialize("127.0.0.1:1", rank=0)


def test_a_process_that_fails_ends_the_others():
    """The message names the rank, its status and its last lines, and no process is left."""
    program = "import os, sys, time; rank = os.environ['RANK']; rank == '1' and sys.exit('no data'); time.sleep(600)"
    with pytest.raises(rs.RankError, match=r"rank 1 ended with status 1, so all were ended\. Its last lines: no data"):
        launch([sys.executable, "-c", program], 3)
    launch([sys.executable, "-c", "import os; assert os.environ['WORLD_SIZE'] == '2'"], 2)


@pytest.mark.parametrize(
    ("programs", "status", "said"),
    [
        (("refuses", "sleeps"), TROUBLE, r"Error: no column 0\."),
        (("sleeps", "refuses"), TROUBLE, r"Error: no column 1\."),
        (("refuses", "aborts"), TROUBLE, r"Error: no column 0\."),
        (("sleeps", "dies"), LOST, r"Error: .*rank 1 was ended by signal 9.*Start the same command again.*"),
        (("sleeps", "loses"), LOST, r"Error: .*rank 1 ended with status 3.*Start the same command again.*"),
    ],
)
def test_only_a_lost_process_asks_for_another_start(tmp_path, monkeypatch, capfd, programs, status, said):
    """Wrong input is said once, by rank 0 or by the rank that has it. The same command helps only if a process was lost."""
    ends = {"refuses": "echo Error: no column $RANK. >&2; exit 2", "sleeps": "exec sleep 600", "loses": "exit 3"}
    ends |= {"aborts": "kill -ABRT $$", "dies": "kill -KILL $$"}
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nif [ $RANK = 0 ]; then {ends[programs[0]]}; fi; {ends[programs[1]]}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr(launching, "_SECONDS_TO_END", 1.0)
    given = ["train", "data.csv", "--target", "x", "--out", str(tmp_path / "x.run"), "--processes", "2"]
    assert main(given) == status
    assert re.fullmatch(said, capfd.readouterr().err.strip())
