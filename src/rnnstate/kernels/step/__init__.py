"""One compiled call per step of serving or training: the caches that `step` and `fit` run through.

| file | idea |
|---|---|
| `jax` | `CompiledStep` and the scan over several training steps |
| `values` | the values of variables for JAX's step, read anew only after a change |
| `torch`, `trace_torch`, `graph_torch` | the captured graph of a step on PyTorch, simplified |
| `training_torch`, `whole_torch`, `fold_torch` | the captured graph of a training step on PyTorch, without autograd |
| `resident_torch`, `small_torch` | the same graph on memory that stays, with small operators as native operations |
"""
