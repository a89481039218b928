"""The state as a value: named arrays, their specification, checks, and state files.

`spec`, `files` and `formats` start neither Keras nor a backend. `checks` uses Keras for tensors. Everything else in
rnnstate builds on this package.

| file | idea |
|---|---|
| `spec` | `LeafSpec` and `StateSpec`: the names, shapes and dtypes of a state |
| `state` | `State`: an immutable mapping from leaf names to arrays |
| `checks` | compares a given state with a specification, before anything changes |
| `files` | `save_state` and `load_state`: the safetensors format |
| `formats` | the same state as `.npz` and `.h5` |
"""
