"""What each kind of layer remembers, and how to run the layer with that memory as an argument.

| file | idea |
|---|---|
| `protocol` | `Port` and the registry: `register_port`, `find_port` |
| `fast_path` | decides whether a layer runs in a fast loop from `kernels/` |
| `scan` | the explicit loop over steps, for cells without a fast loop |
"""
