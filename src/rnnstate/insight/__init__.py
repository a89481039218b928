"""Measurements that tell a user how good the states are.

| file | idea |
|---|---|
| `staleness` | the distance between carried states and the states that the current weights would give |

Users reach `Staleness` as `rnnstate.Staleness`. Other packages may import `staleness.Staleness` and `staleness.distance`.
"""
