"""What the tests of several files of this folder use."""

import pytest


@pytest.fixture
def kept(monkeypatch):
    """Trace the second step of each shape. Return a list with an entry for each trace: what was kept, or `None`."""
    from rnnstate.kernels.step import training_torch  # needs PyTorch

    tries, attempt = [], training_torch.TrainingStep._try

    def noted(step, key, *args):
        logs = attempt(step, key, *args)
        kept = step._kept.get(key)
        name = kept and ("resident" if getattr(kept, "stays", 0) else type(kept).__name__.strip("_").lower())
        tries.append(name)
        return logs

    monkeypatch.setattr(training_torch, "AFTER", 2)
    monkeypatch.setattr(training_torch.TrainingStep, "_try", noted)
    return tries
