"""Training that was stopped and continues bit for bit.

| file | idea |
|---|---|
| `fit` | `model.fit(checkpoint=...)`: restores the newest checkpoint and continues in the middle of an epoch |
| `checkpoint` | `Checkpoint` and the folder of checkpoint files |
| `training_state` | everything that the next step depends on: weights, optimizer, states, generators, callbacks |
| `same_run` | checks that a checkpoint belongs to the run that wants to continue |
| `file` | writes and reads one checkpoint file, with its checksum; `rnnstate.durable` replaces the file |
| `packing` | the content of a checkpoint as JSON and arrays |

Other packages import `Checkpoint`; `model/` also imports `fit_resumably`.
"""
