"""Export of the step model `(x, state) -> (y, state)` to other runtimes. A file is verified, or it is not kept.

In reading order:

| file | idea |
|---|---|
| `exporter` | `export`: checks the arguments, runs a job, moves its files to their places, writes the manifest |
| `formats` | the formats: suffix, the backend that writes the file, packages that it needs |
| `signature` | names, shapes and dtypes of the inputs and outputs of the step model |
| `programs` | the functions that a file holds: the step and, where it is computed, the initial state |
| `job` | one export at work, in a temporary folder: calls the worker here or starts it in another process |
| `worker` | loads a copy of the model, writes the file and runs it |
| `copy` | makes a second model with the weights of the first |
| `custom_classes` | finds the user's own classes in a network, and how another process imports them |
| `on_tensorflow`, `on_jax` | the writers: ONNX, SavedModel and LiteRT; StableHLO |
| `plain_keras` | the step model as a network of stock layers, for the `.keras` format |
| `chunked_run` | runs a file chunk by chunk; needs NumPy alone |
| `verification` | compares the file with the live model, output by output |
| `manifest` | the JSON file next to the export |

Other packages import `export` and `Export` from here.
"""

from rnnstate.exporting.exporter import Export, export

__all__ = ["Export", "export"]
