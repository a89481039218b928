"""`StatefulModel`, and where it keeps states between batches.

| file | idea |
|---|---|
| `stateful_model` | the public class: `step`, `call`, saving |
| `fitting` | `compile` and `fit` |
| `inference` | `evaluate` and `predict` |
| `by_batch` | `train_on_batch`, `test_on_batch` and `predict_on_batch` |
| `progress` | where a loop over batches stands |
| `scored` | what counts in the loss and the metrics |
| `output_sizes` | whether outputs have the steps of their windows |
| `parts` | the parts of a model that Keras must not see |
| `bank` | one row of state per sequence, as non-trainable weights |
| `carry` | the inside of the compiled step: gather, reset, detach, run, scatter |
| `by_key` | `model.states`: read, write and reset states by the keys of sequences |
| `rollout` | `trace` and `rollout` |
| `feedback` | the inputs of a free run: fed back, known, and whether they fit |
| `loops` | the compiled loops of `trace` and `rollout`, kept by shape |
| `guarded` | keeps threads apart that use one model |
| `compiled` | when functions that Keras has compiled must be compiled again |

Other packages import `StatefulModel`. A batch of windows reaches `carry` as `rnnstate.windows.batch.Batch`.
"""
