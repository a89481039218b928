"""What several processes cannot do the same as one is refused by name, before anything changes."""

import sys

import keras
import numpy as np
import pytest

import ranked
import rnnstate as rs
from rnnstate.kernels.ranks.group import Group, join
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
