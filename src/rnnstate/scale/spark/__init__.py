"""Keyed scoring on Spark: a stream with exactly-once state, and a back-fill over a table.

| file | idea |
|---|---|
| `stream` | `score_stream`: a streaming frame, scored with a state for each key |
| `table` | `score_table`: a whole table, scored as `rnnstate predict` does |
| `states` | `read_states`, `save_states`, `seed_states`: the states of a checkpoint as a table, and savepoints |
| `processor` | what Spark calls for each shard and batch |
| `columns` | the key as text, its shard, the schema of a record |

Spark reaches the model by its path. `pip install "rnnstate[spark]"` and Java 17 are needed.
"""

from rnnstate.scale.engines import require

require("pyspark")

from rnnstate.scale.spark.states import read_states, save_states, seed_states  # noqa: E402
from rnnstate.scale.spark.stream import score_stream  # noqa: E402
from rnnstate.scale.spark.table import score_table  # noqa: E402

__all__ = ["score_stream", "score_table", "read_states", "save_states", "seed_states"]
