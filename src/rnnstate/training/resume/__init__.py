"""Training that was stopped and continues bit for bit.

| file | idea |
|---|---|
| `fit` | `model.fit(checkpoint=...)`: restores the last checkpoint and continues |
| `checkpoint` | `Checkpoint` and the folder of checkpoint files |
| `training_state` | everything that a run needs to continue: weights, optimizer, states, generators, callbacks |
| `same_run` | checks that a checkpoint belongs to the run that wants to continue |
| `file` | writes and reads one checkpoint file, with its checksum |
| `packing` | the byte format inside the file |
"""
