"""A Keras network turned into the pure function `step(x, state) -> (y, state)`.

| file | idea |
|---|---|
| `clone` | clones the network, with a stand-in for each layer that has a memory |
| `stand_in` | `PortLayer`: runs one layer through its port, with leaves from the scope |
| `scope` | hands the leaves of one call to the stand-ins, and collects their final leaves |
| `step` | opens a scope, calls the clone, and returns outputs and state; compiles the call |
| `watch` | notices that a layer has changed since a step was compiled |
| `served` | the weights that a step uses while another thread trains |
| `probe` | runs the network once to learn the specification of its state |
| `inputs` | the arrays that a network gets, and the check before anything runs |
| `finite` | the test whether all numbers of an array are finite |
| `masks` | the rules for masks |
| `strides` | networks that give one output for several steps: windows of whole groups |

Other packages may import `carrying_clone`, `walk`, `trace`, `run`, `Stepper`, `Served`, `Strides`, `PortLayer`, `is_finite`
and the functions of `masks`.
"""
