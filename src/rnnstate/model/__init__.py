"""`StatefulModel`, and where it keeps states between batches.

| file | idea |
|---|---|
| `stateful_model` | the public class: `step`, `call`, saving |
| `fitting` | `compile` and `fit` |
| `inference` | `evaluate` and `predict` |
| `parts` | the parts of a model that Keras must not see |
| `bank` | one row of state per sequence, as non-trainable weights |
| `carry` | the inside of the compiled step: gather, reset, detach, run, scatter |
| `by_key` | `model.states`: read, write and reset states by the keys of sequences |
| `rollout` | `trace` and `rollout` |

Other packages import `StatefulModel`. A batch of windows reaches `carry` as `rnnstate.windows.batch.Batch`.
"""
