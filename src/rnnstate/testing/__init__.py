"""The laws as assertions, for authors of ports, cells and models.

| file | idea |
|---|---|
| `laws` | the laws of `step`: windows equal the whole, `step` is explicit, a reset acts first |
| `model_laws` | the laws of `fit`, `predict` and `states`: isolation, nothing silent, resuming |
| `closeness` | compares arrays and states, and says where they differ |
| `counting` | `CountingCell`: a cell with results that can be written by hand |

Each assertion raises `AssertionError` with the largest difference and its place. An assertion that could pass by accident
has a control: it also fails if the result would be the same without carrying.

Other packages may import the names listed here.
"""

from rnnstate.testing.closeness import assert_close, assert_states_close
from rnnstate.testing.counting import CountingCell
from rnnstate.testing.laws import assert_explicit, assert_reset_first, assert_windows_equal_whole
from rnnstate.testing.model_laws import assert_isolated, assert_nothing_silent, assert_resumes

__all__ = [
    "CountingCell",
    "assert_close",
    "assert_states_close",
    "assert_windows_equal_whole",
    "assert_isolated",
    "assert_nothing_silent",
    "assert_explicit",
    "assert_resumes",
    "assert_reset_first",
]
