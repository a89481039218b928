"""More than one process or machine, for one model.

One rule holds in this room: data are cut by sequence, never by time, so that no state crosses a worker.

| file | idea |
|---|---|
| `processes` | `initialize`: this process trains together with others |
| `launch` | starts several processes on one machine, and ends all of them when one fails |
"""

from rnnstate.scale.processes import initialize, rank, ranks

__all__ = ["initialize", "rank", "ranks"]
