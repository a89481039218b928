"""What rnnstate adds around Keras' `fit`.

| file | idea |
|---|---|
| `fit_checks` | refuses arguments that would break the time order, before anything runs |
| `target_checks` | refuses targets that do not agree with their output |
| `elementwise` | the losses that need a target of the output's shape |
| `stride_checks` | refuses windows that do not hold whole groups of steps, for a network with strides over time |
| `keras_calls` | reads calls in Keras' own form, or answers with the call to write |
| `class_weights` | `class_weight` as sample weights |
| `loader` | feeds batches to the backend ahead of the step, with slots of the bank; makes the first batch once |
| `stacks` | the batches of one call, cut from the data together |
| `fit_hooks` | the epoch of the windows, the learning rate of each batch, and variables that survive a failure |
| `roles` | the protocol of a model, as far as training uses it |
| `resume/` | checkpoints, and training that continues bit for bit |

Other packages import `Checkpoint` from `resume/`. Only `model/` imports the rest.
"""
