"""PyTorch's `nn.LSTM` in a hand-written loop: truncated back-propagation, with the state carried and detached."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from rnnstate.bench.contenders.task import EPSILON, LEARNING_RATE, Repeat, Task, batches, repeated, weights


class _Net(torch.nn.Module):
    """The network with the weights of the task."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(task.features, task.units, num_layers=task.layers, batch_first=True)
        self.dense = torch.nn.Linear(task.units, 1)
        *loops, kernel, bias = (torch.from_numpy(array) for array in weights(task))
        with torch.no_grad():
            for layer in range(task.layers):
                self._load(layer, *loops[3 * layer : 3 * layer + 3])
            self.dense.weight.copy_(kernel.T)
            self.dense.bias.copy_(bias)

    def _load(self, layer: int, kernel: Any, recurrent: Any, bias: Any) -> None:
        for name, value in (("weight_ih", kernel.T), ("weight_hh", recurrent.T), ("bias_ih", bias)):
            getattr(self.lstm, f"{name}_l{layer}").copy_(value)
        # PyTorch has a second bias. If it trained too, the sum of both would move twice as fast.
        getattr(self.lstm, f"bias_hh_l{layer}").zero_().requires_grad_(False)

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        outputs, (h, c) = self.lstm(x, (h, c))
        return self.dense(outputs), h, c


def train(task: Task, compiled: bool = False) -> Repeat:
    """Return a training on the fastest number of threads. For small layers that is one thread."""
    choose_threads(lambda task: _trainer(task, compiled=False), task)
    return _trainer(task, compiled)


def _trainer(task: Task, compiled: bool) -> Repeat:
    net = _Net(task)
    kept = [parameter for parameter in net.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(kept, LEARNING_RATE, eps=EPSILON, fused=True)

    def step(x: Any, y: Any, h: Any, c: Any) -> Any:
        outputs, h, c = net(x, h, c)
        loss = torch.nn.functional.mse_loss(outputs, y)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss.detach(), h.detach(), c.detach()

    run = torch.compile(step) if compiled else step
    x, y = (torch.from_numpy(part) for part in batches(task))

    def epochs(count: int) -> float:
        for _ in range(count):
            h = c = torch.zeros(task.layers, task.batch, task.units)
            losses = []
            for one, target in zip(x, y, strict=True):
                loss, h, c = run(one, target, h, c)
                losses.append(loss)
        return float(torch.stack(losses).mean())

    return epochs


def step(task: Task, compiled: bool = False) -> Repeat:
    """Return a step without gradients, from NumPy to NumPy."""
    serve_only()
    net = _Net(task)
    run = torch.compile(net) if compiled else net
    h = c = torch.zeros(task.layers, task.batch, task.units)
    kept = [h, c]

    def call(x: Any) -> Any:
        y, *kept[:] = run(torch.from_numpy(x), *kept)
        return y.numpy()

    return repeated(call, task)


def serve_only() -> None:
    """Use one thread and no gradients, as users do to serve a small model."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def choose_threads(build: Callable[[Task], Repeat], task: Task) -> None:
    """Set the number of threads of PyTorch to 1 or to its default, whichever trains faster."""
    small, choices = replace(task, windows=min(task.windows, 2)), sorted({1, torch.get_num_threads()})
    runs = {threads: _with_threads(threads, lambda: build(small)) for threads in choices}
    for threads, run in runs.items():
        _time(run, threads)  # the first run allocates memory
    # The choices take turns, and the fastest turn counts, so that other work on the machine chooses nothing.
    turns = [{threads: _time(run, threads) for threads, run in runs.items()} for _ in range(8)]
    torch.set_num_threads(min(choices, key=lambda threads: min(turn[threads] for turn in turns)))


def _with_threads(threads: int, work: Callable[[], Any]) -> Any:
    torch.set_num_threads(threads)
    return work()


def _time(run: Repeat, threads: int) -> float:
    start = time.perf_counter()
    _with_threads(threads, lambda: run(1))
    return time.perf_counter() - start
