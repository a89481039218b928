"""What the tests of several files of this folder use."""

import pytest


@pytest.fixture
def kept(monkeypatch):
    """Trace the second step of each shape. Return a list with an entry for each trace: what was kept, or `None`."""
    from rnnstate.kernels.step import training_torch  # needs PyTorch

    tries, attempt = [], training_torch.TrainingStep._try

    def noted(step, key, *args):
        logs = attempt(step, key, *args)
        tries.append(type(step._kept[key]).__name__.strip("_").lower() if key in step._kept else None)
        return logs

    monkeypatch.setattr(training_torch, "AFTER", 2)
    monkeypatch.setattr(training_torch.TrainingStep, "_try", noted)
    return tries
