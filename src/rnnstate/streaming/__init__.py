"""A state for each of many live sources, one step or one chunk at a time.

| file | idea |
|---|---|
| `streamer` | `Streamer`: `push`, `peek`, `write` and the other methods that users call |
| `pushes` | a push after its input was read: records, sequence numbers, the step, the commit |
| `together` | a push of sessions that simply go on, for all keys at once |
| `failures` | the errors of single keys |
| `items` | reads and checks what is pushed for one key |
| `batches` | many keys and lengths in a few compiled shapes |
| `joining` | callers of `apush` that share a step |
| `engine` | what a step needs of a model; `keras_engine` and `onnx_engine` are the two kinds |
| `opening` | a store that belonged to another model |
| `keys` | the keys of sessions as text |
| `stores/` | where the states live between steps |

Only `keras_engine` imports Keras.
"""
