"""One compiled call per step of serving or training: the caches that `step` and `fit` run through.

| file | idea |
|---|---|
| `jax` | `CompiledStep` and the scan over several training steps |
| `torch`, `graph_torch` | the captured graph of a step on PyTorch, simplified |
"""
