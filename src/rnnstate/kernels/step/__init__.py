"""One compiled call per step of serving or training: the caches that `step` and `fit` run through.

| file | idea |
|---|---|
| `jax` | `CompiledStep` and the scan over several training steps |
| `values` | the values of variables for JAX's step, read anew only after a change |
| `torch`, `graph_torch` | the captured graph of a step on PyTorch, simplified |
"""
