"""PyTorch: the training step of a model traced to its tensor operations, and run without Keras' Python code.

Small networks spend most of a step in the Python code of layers, losses, metrics and the optimizer, and in the engine of
autograd. This code computes the same in each step of one shape. So a step is traced once, and the later ones run the traced
operations:

    Keras      network -> loss -> metrics | backward | optimizer
    traced     one graph of operators     | backward | optimizer
    whole      one list of operators, without autograd

The whole step is traced if all code of the optimizer belongs to Keras and does not depend on values. Accumulated gradients
and scaled losses depend on values: then PyTorch still runs the backward pass, and Keras still runs the optimizer.

A trace takes as long as a hundred steps of a small network, so it waits until a shape has come often. Then one step runs
several times.
First the traced operations run, and their writes are undone. Then Keras runs the step. The operations are kept only if both
give the same logs, gradients, weights and states, bit for bit. A training that was killed therefore continues with the same
bits, whether the trace comes before the kill or after it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import keras
import torch
from keras import ops, tree

from rnnstate.kernels.step.resident_torch import MOST
from rnnstate.kernels.step.trace_torch import Traced, trace
from rnnstate.kernels.step.whole_torch import is_long, trace_whole

# Steps of one shape before the trace.
AFTER = 50
# Settings of an optimizer, one after another, for which it is traced.
_CHANGES = 3
# A rehearsal copies the states of all sequences. Above so many bytes, no step is traced.
_MOST = 2**28


class TrainingStep:
    """The training function of Keras, and what was traced of it.

    Args:
        model: The model. It is compiled.
        keras_steps: Keras' training function, which takes a list of batches and returns the logs.
    """

    def __init__(self, model: Any, keras_steps: Callable[[Any], Any]) -> None:
        self._model, self._keras_steps = model, keras_steps
        self._settings = _Settings()
        self._versions: tuple[int, int | None] = (0, 0)
        self._seen: dict[Any, int] = {}
        self._kept: dict[Any, Callable[[list[Any]], Any]] = {}

    def __call__(self, data: Any) -> Any:
        if type(data) not in (list, tuple) or len(data) != 1 or torch.is_autocast_enabled("cpu"):
            return self._keras_steps(data)
        arrays: list[Any] = []
        versions = self._model.network_version(), self._settings.version(self._model.optimizer)
        if versions != self._versions:  # the versions before do not come again
            self._versions = versions
            self._seen.clear()
            self._kept.clear()
        key = _described(data[0], arrays)
        if key in self._kept:
            with self._model.alone_in_network():
                return self._kept[key](arrays)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] != AFTER:
            return self._keras_steps(data)
        with self._model.alone_in_network():
            return self._try(key, data, arrays)

    def _try(self, key: Any, data: Any, arrays: list[Any]) -> Any:
        """Run a step as Keras does, and keep the fastest traced step that gives the same."""
        with _generators_kept():
            steps = self._traced(data, arrays)
        rehearsed = [_rehearsed(step, arrays) for step in steps]
        logs = self._keras_steps(data)
        for step, made in zip(steps, rehearsed, strict=True):
            if made is not None and key not in self._kept and _equal(made, [*tree.flatten(logs), *step.results()]):
                self._kept[key] = step
        return logs

    def _traced(self, data: Any, arrays: list[Any]) -> list[Any]:
        """Return the traced steps, the fastest first."""
        steps: list[Any] = []
        # An error of the network itself is raised again later, where the network runs untraced.
        with suppress(Exception):
            if self._model.is_plain():  # a layer may have got code of the user since the training began
                trained = list(self._model.trainable_variables)
                traced = trace(self._step, self._variables(), data[0], arrays, training=True)
                steps.append(_Forward(traced, self._model, trained))
                known = self._versions[1] is not None and self._model.has_plain_optimizer()
                if known and not is_long(traced):
                    left = MOST - sum(getattr(step, "stays", 0) for step in self._kept.values())
                    steps = [*trace_whole(traced, self._model.optimizer, trained, arrays, left), *steps]
        return steps

    def _step(self, *batch: Any) -> dict[str, Any]:
        """Keras' `train_step` without the backward pass and the optimizer."""
        model, (x, y, sample_weight) = self._model, keras.utils.unpack_x_y_sample_weight(batch)
        y_pred = model(x, training=True)
        loss = model.compute_loss(x, y, y_pred, sample_weight, True)
        model.metrics[0].update_state(loss, sample_weight=tree.flatten(x)[0].shape[0])
        # The trace returns the parts in the order of their names, so the loss comes first.
        return {"cost": loss, "logs": model.compute_metrics(x, y, y_pred, sample_weight)}

    def _variables(self) -> list[Any]:
        variables = [*self._model.variables, *self._model.metrics_variables]
        return list({id(variable): variable for variable in variables}.values())


class _Settings:
    """The attributes that an optimizer computes with. A traced step keeps them, so it serves until one of them changes.

    If they change often, as by a callback at each epoch, the optimizer is not traced.
    """

    def __init__(self) -> None:
        self._seen: list[Any] = []
        self._ids: list[int] = []
        self._version = 0

    def version(self, optimizer: Any) -> int | None:
        """Return a number that is another one after each change of an attribute, or `None` after many changes."""
        found = [optimizer, *vars(optimizer).values()]
        for value in found[1:]:
            if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
                found += vars(value).values()
        ids = [*map(id, found)]
        if ids != self._ids:
            # The list keeps the objects, so no other object gets the identity of one of them.
            self._seen, self._ids = found, ids
            self._version += 1
        return self._version if self._version <= _CHANGES else None


class _Forward:
    """A step whose network, loss and metrics are traced. PyTorch runs the backward pass, and Keras the optimizer.

    Args:
        traced: The traced operations.
        model: The model, which may get another optimizer.
        trained: The variables that the optimizer trains.
    """

    def __init__(self, traced: Traced, model: Any, trained: list[Any]) -> None:
        self._traced, self._model, self._trained = traced, model, trained
        self.written = traced.written

    def __call__(self, arrays: list[Any]) -> Any:
        """Run a step as Keras' `train_step` does, with the traced operations in place of the network."""
        made = self._traced.run(arrays)
        loss = self._model.optimizer.scale_loss(made[0])
        for variable in self._trained:
            variable.value.grad = None
        loss.backward()
        with torch.no_grad():
            self._model.optimizer.apply([variable.value.grad for variable in self._trained], self._trained)
            for variable in reversed(self._traced.assigned):
                variable.assign(made.pop())
        return self._traced.pack(made)["logs"]

    def rehearse(self, arrays: list[Any]) -> list[Any]:
        """Run the traced operations. Return the leaves of the logs, and the parts of `results`."""
        made = self._traced.run(arrays)
        loss = self._model.optimizer.scale_loss(made[0])
        gradients = torch.autograd.grad(loss, [variable.value for variable in self._trained], allow_unused=True)
        return [*made[1:], *gradients, *[variable.value.clone() for variable in self.written]]

    def results(self) -> list[Any]:
        """Return what a step has left behind: assigned values, gradients and written variables."""
        gradients = [variable.value.grad for variable in self._trained]
        return [*self._traced.values(), *gradients, *[variable.value for variable in self.written]]


def _rehearsed(step: Any, arrays: list[Any]) -> list[Any] | None:
    """Return the results of a step that changes nothing, or `None` if it fails."""
    with suppress(Exception), _taken_back(step.written), _generators_kept():
        made: list[Any] = step.rehearse(arrays)
        return made
    return None


def _generators_kept() -> AbstractContextManager[Any]:
    """Return a context at whose end PyTorch's generators are as they were, because Keras draws dropout from them."""
    context: AbstractContextManager[Any] = torch.random.fork_rng(range(torch.cuda.device_count()))
    return context


@contextmanager
def _taken_back(variables: list[Any]) -> Iterator[None]:
    """Give variables their values back at the end."""
    values = [variable.value for variable in variables]
    if sum(value.nbytes for value in values) > _MOST:
        raise ValueError("These variables are too large to be copied.")
    before = [value.clone() for value in values]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, old in zip(values, before, strict=True):
                value.copy_(old)


def _described(part: Any, arrays: list[Any]) -> Any:
    """Add the arrays of a batch to `arrays`, as tensors, and return the properties that a trace depends on."""
    if part is None:
        return None
    if type(part) is dict:
        return tuple([(name, _described(part[name], arrays)) for name in sorted(part)])
    if type(part) in (list, tuple):
        return tuple([_described(one, arrays) for one in part])
    array = part if type(part) is torch.Tensor else ops.convert_to_tensor(part)
    arrays.append(array)
    return array.shape, array.stride(), array.dtype, array.device


def _equal(ones: list[Any], others: list[Any]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(
        one is other if one is None or other is None else one.dtype == other.dtype and torch.equal(one, other)
        for one, other in pairs
    )
