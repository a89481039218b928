"""The checks of targets: a wrong shape would be broadcast, and train on nonsense without an error."""

from collections.abc import Mapping
from typing import Any

from rnnstate.errors import DataError
from rnnstate.network.outputs import by_output, output_names, outputs_per_step
from rnnstate.training.elementwise import elementwise_losses
from rnnstate.training.loader import Source
from rnnstate.training.roles import Carrying


def check_targets(model: Carrying, source: Source, argument: str) -> None:
    """Raise unless there are targets, and each agrees with its output.

    Args:
        model: The `StatefulModel`.
        source: The windows.
        argument: The name of the windows, for the message.

    Raises:
        DataError: If there are no targets, or targets are per step for an output per window or the other way round, or an
            elementwise loss would pair numbers of a target with other numbers of the output.
    """
    if len(source.first()) < 2:
        raise DataError(f"`{argument}` must have targets. Received: windows without `y`. Use `Windows(x, y, ...)`.")
    _check_kinds(model.net, source)
    _check_strided_targets(model, source)
    _check_shapes(model, source)


def _check_kinds(net: Any, source: Source) -> None:
    batch, windows, outputs = source.first(), source.windows, net.outputs
    targets, kinds = by_output(net, batch[1], "y"), by_output(net, windows.targets, "y")
    if len(targets) != len(outputs) or (len(outputs) > 1 and not isinstance(batch[1], Mapping)):
        return
    for target, output, kind, per_step in zip(targets, outputs, kinds, outputs_per_step(net), strict=True):
        if target is None:
            continue
        # Without this, (batch, time, 1) against (batch, 1) broadcasts, and trains on nonsense.
        if not per_step and (target.ndim > len(output.shape) or kind == "steps"):
            raise DataError(
                f"The network gives one output per window{_named(net, output)} (`return_sequences=False`), so targets must "
                f"be one per window. Received: targets per step, batch shape {target.shape}. "
                'Use `Windows(..., targets="last")`.'
            )
        if per_step and target.ndim <= 2 and kind != "steps":
            raise DataError(
                f"The network gives one output per step{_named(net, output)}, so targets must be per step, (time, outputs). "
                f"Received: one per {kind if kind == 'sequence' else 'window'}, batch shape {target.shape}. Set "
                "`return_sequences=False` in the last recurrent layer, or give targets per step."
            )


def _check_strided_targets(model: Carrying, source: Source) -> None:
    """Raise unless each target has an entry for each step, or one for each step of its output."""
    steps, targets = source.windows.length, by_output(model.net, source.first()[1], "y")
    for number, (target, rate) in enumerate(zip(targets, model.strides.outputs, strict=False)):
        if rate > 1 and target is not None and target.shape[1:2] not in ((steps,), (steps // rate,)):
            raise DataError(
                f"Targets of a window of {steps} steps must have {steps} entries, of which the last one of each {rate} "
                f"steps counts, or {steps // rate} entries{_named(model.net, model.net.outputs[number])}. Received: batch "
                f"shape {target.shape}."
            )


def _check_shapes(model: Carrying, source: Source) -> None:
    """Raise if an elementwise loss would pair the numbers of a target with the numbers of an output by broadcasting."""
    (inputs, y, *_), outputs = source.first(), model.net.outputs
    targets, losses = by_output(model.net, y, "y"), elementwise_losses(model.net, getattr(model, "loss", None))
    several = len(outputs) > 1
    if _has_own_loss(model) or len(targets) != len(outputs) or (several and not isinstance(y, (Mapping, list, tuple))):
        return
    for target, output, loss, rate in zip(targets, outputs, losses, model.strides.outputs, strict=True):
        if target is None or loss is None:
            continue
        steps = (source.windows.max_length // rate if output.shape[1] is None else output.shape[1],) if rate else ()
        expected = (len(inputs["slot"]), *steps, *output.shape[1 + len(steps) :])
        if not _agrees(tuple(target.shape), expected, 1 + len(steps)):
            names = ["batch", *["time"] * len(steps), *map(_size, expected[1 + len(steps) :])]
            raise DataError(
                f"Targets must have the shape of the output{_named(model.net, output)}, ({', '.join(names)}), because the "
                f"loss `{loss}` pairs their numbers one by one. Received: batch shape {tuple(target.shape)}, which would "
                "be broadcast. Give as many targets as the output has values, or change the units of the last layer."
            )


def _has_own_loss(model: Carrying) -> bool:
    """Return whether the code of a user computes the loss, which may use targets in any way."""
    methods = ("compute_loss", "train_step", "test_step")
    modules = [str(getattr(type(model), name).__module__) for name in methods]
    return any(name in vars(model) for name in methods) or not all(
        module.startswith(("keras.", "rnnstate.")) for module in modules
    )


def _agrees(shape: tuple[int, ...], expected: tuple[int | None, ...], leading: int) -> bool:
    """Return whether a target has the shape of an output, whose first `leading` axes are batch and time.

    Keras adds or removes a last axis of size 1. Other checks know which numbers of steps a target may have, but one step
    would count at all of them.
    """
    own, sizes = shape[leading:], expected[leading:]
    if len(own) == len(sizes) - 1 and sizes[-1] == 1:
        own = (*own, 1)
    elif len(own) == len(sizes) + 1 and own[-1] == 1:
        own = own[:-1]
    repeated = any(one == 1 != other for one, other in zip(shape, expected[:leading], strict=False))
    return not repeated and len(own) == len(sizes) and all(map(_fits, own, sizes))


def _fits(number: int, size: int | None) -> bool:
    return size in (None, number)


def _size(size: int | None) -> str:
    return "any" if size is None else str(size)


def _named(net: Any, output: Any) -> str:
    """Return which output it is, if there are several: a part of a sentence."""
    places = [place for place, other in enumerate(net.outputs) if other is output]
    return f" for `{output_names(net)[places[0]]}`" if len(net.outputs) > 1 else ""
