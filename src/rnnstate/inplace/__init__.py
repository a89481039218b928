"""The state of a Keras model that you already have, with `stateful=True` layers.

| file | idea |
|---|---|
| `access` | `read`, `write`, `reset`: checked access to the state variables |
| `discover` | finds the stateful layers and their variables, and names them |
| `audit` | `audit`: reports what the model does with its state on this backend |
| `repair` | `repair`: replaces stock stateful layers with layers that carry on every backend |

Users reach `read`, `write`, `reset`, `audit` and `repair` as `rnnstate.read` and so on. Other packages may import these, and
`discover.recurrent_layers` and `discover.keeps_state`.
"""
