"""A Keras network turned into the pure function `step(x, state) -> (y, state)`.

| file | idea |
|---|---|
| `clone` | clones the network and replaces each layer that has a memory by a stand-in, `PortLayer` |
| `scope` | hands the leaves of one call to the stand-ins, and collects their final leaves |
| `step` | opens a scope, calls the clone, and returns outputs and state; compiles the call |
| `probe` | runs the network once to learn the specification of its state |
| `masks` | the rules for masks |
"""
