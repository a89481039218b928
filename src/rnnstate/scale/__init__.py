"""More than one process or machine, for one model.

One rule holds in this room: data are cut by sequence, never by time, so that no state crosses a worker.

| file | idea |
|---|---|
| `processes` | `initialize`: this process trains together with others |
| `launch` | starts several processes on one machine, and ends all of them when one fails |
| `shards` | which worker has a key |
| `scorer`, `records`, `events` | a model over numbered events of many keys, each with its record |
| `backfill` | a table of past events, scored in groups of shards |
| `engines` | the engines, or a message that one is missing |
| `spark/`, `ray/` | the same on Spark and on Ray |
"""

from rnnstate.scale.processes import initialize, rank, ranks

__all__ = ["initialize", "rank", "ranks"]
