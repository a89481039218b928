"""XLA's C interface for foreign functions, as the native loops read it. See `docs/native-loops.md`.

Everything that depends on how XLA lays out memory is in this folder. Other files use names, never offsets.

| file | idea |
|---|---|
| `header` | the layout of C structs, read from the header that is installed with JAX |
| `frame` | the call frame: a diagram, its offsets by name, and its buffers as arrays |
| `pool` | the two calls to XLA's thread pool |
"""
