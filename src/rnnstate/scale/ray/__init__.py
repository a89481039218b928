"""Keyed scoring on Ray: a pool of actors for live sources, and a back-fill over a dataset.

| file | idea |
|---|---|
| `pool` | `Pool`: keys to shards to actors, over a store that survives them |
| `worker` | what runs in an actor |
| `table` | `score_dataset`: a whole dataset, scored as `rnnstate predict` does |

`pip install "rnnstate[ray]"` is needed.
"""

from rnnstate.scale.engines import require

require("ray")

from rnnstate.scale.ray.pool import Pool  # noqa: E402
from rnnstate.scale.ray.table import score_dataset  # noqa: E402

__all__ = ["Pool", "score_dataset"]
