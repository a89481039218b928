"""The state of a Keras model that you already have, with `stateful=True` layers.

| file | idea |
|---|---|
| `access` | `read`, `write`, `reset` |
| `discover` | finds the stateful layers and their variables |
| `audit` | `audit`: says what the model does with its state on this backend |
| `repair` | `repair`: replaces stock stateful layers with layers that carry on every backend |
"""
