"""Which nodes of a network mix time: found before anything runs, so that no network is silently wrong in windows.

A node is one call of a layer or of an operation of `keras.ops`. Axis 1 of a series is time. Each node belongs to one class:

- *per step*: the output at a step depends on the input at that step alone. Windows equal the whole.
- *carried*: a port hands over what the layer needs from earlier windows. Windows equal the whole.
- *summarises*: the output has no time axis. There is one output for each window.
- *mixes time*: the output at a step depends on other steps, and nothing carries them. Windows differ from the whole.

| file | idea |
|---|---|
| `axis` | what axis 1 of a tensor stands for: the steps of the window, or something else |
| `table` | the class of the layers that Keras has, by their configuration, without any computation |
| `probe` | the class of any other node, from a few runs on small random inputs |
| `trial` | the runs of the probe on windows of one length |
| `cases` | the random inputs of the probe |
| `lost_masks` | nodes that read the masked steps of attention without their mask |
| `mask_values` | the mask of each tensor, by its value |
| `walk` | follows a network node by node, at any depth |
| `advice` | what to use in place of a layer without a port |
| `verdict` | what is found, and the error of `StatefulModel` |

Other packages may import `Followed`, `Mixing`, `follow`, `is_carried_without_strides`, `mixing_of`, `mode_of_old_file`,
`read_mode`, `refuse_mixing`, `refuse_unsized` and `without_steps`.
"""

from rnnstate.network.time_mixing.verdict import Mixing, mode_of_old_file, read_mode, refuse_mixing, refuse_unsized
from rnnstate.network.time_mixing.walk import (
    Followed,
    follow,
    is_carried_without_strides,
    mixing_of,
    without_steps,
)

__all__ = [
    "Followed",
    "Mixing",
    "follow",
    "is_carried_without_strides",
    "mixing_of",
    "mode_of_old_file",
    "read_mode",
    "refuse_mixing",
    "refuse_unsized",
    "without_steps",
]
