"""Calls of `step` without gradients."""

from contextlib import nullcontext

import keras


def serving():
    """Keep no gradients: on PyTorch, `step` is compiled only then."""
    if keras.config.backend() != "torch":
        return nullcontext()
    import torch  # noqa: TID251

    return torch.no_grad()
