"""A small RUN, and each engine once for all tests."""

import os
import sys

import pytest

import forecasting
import ranked
import rnnstate as rs
from rnnstate.cli.app import main
from rnnstate.scale.launch import launch


@pytest.fixture(scope="session")
def out_of_ranks(backend, warm_python, tmp_path_factory):
    """Return where the ranks of a run have written what they know; `checkpoints` beside it is theirs.

    Two processes train. On PyTorch, whose processes start sooner, one of the two is killed, and three continue.
    """
    folder = tmp_path_factory.mktemp("ranks")
    out = folder / "out"
    out.mkdir()
    command = [warm_python, ranked.__file__, str(out), str(folder / "checkpoints")]
    if backend != "torch":
        launch(command, 2)
        return out
    with pytest.raises(rs.RankError, match=r"rank 1 was ended by signal 9, so all were ended.*continues"):
        launch([*command, "1", "2"], 2)
    assert not list(out.iterdir())
    launch(command, 3)
    return out


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Return a RUN and a table with later rows, among them a gap and a new key."""
    folder = tmp_path_factory.mktemp("run")
    table = forecasting.write_rows(folder / "train.csv", forecasting.rows(0, 60))
    assert main(["train", table, *forecasting.TRAIN, *forecasting.TINY, "--out", str(folder / "wave.run")]) == 0
    later = forecasting.write_rows(folder / "later.csv", forecasting.rows(60, 89, "abc", gap=71))
    return folder / "wave.run", later


@pytest.fixture(scope="module")
def spark():
    """Start Spark with two threads and little memory, and stop it at the end."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1g",
        # Java optimizes less and Spark writes no code of its own, so short queries take less time.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "7",  # the rows of a shard come in several frames
        "spark.python.authenticate.socketTimeout": "120s",  # a busy machine starts workers slowly
        "spark.sql.session.timeZone": "UTC",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def ray_cluster():
    """Start Ray with one processor, and stop it at the end."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=2**27, log_to_driver=False)
    yield ray
    ray.shutdown()
