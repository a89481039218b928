"""`evaluate` and `predict` of `StatefulModel`: Keras' methods on windows, with a bank apart from that of training."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnstate.kernels import kernels
from rnnstate.kernels.ranks import rank_kernels
from rnnstate.kernels.ranks.group import group
from rnnstate.model.bank import GIVEN
from rnnstate.model.compiled import drop_outdated, forget_compiled
from rnnstate.model.guarded import Guarded, alone
from rnnstate.model.output_sizes import check_sizes
from rnnstate.model.parts import Parts
from rnnstate.model.ranked import exchange_outputs, exchange_rows
from rnnstate.network.outputs import by_output
from rnnstate.state.checks import checked
from rnnstate.state.state import State
from rnnstate.training.fit_checks import check_windows, last_windows, prepare_start, unstacked
from rnnstate.training.fit_hooks import variables_kept
from rnnstate.training.keras_calls import read_call
from rnnstate.training.loader import BoundWindows, Source
from rnnstate.training.ranks import explained, merged_metrics


class Inference(Guarded):
    """The methods of `StatefulModel` that evaluate and predict."""

    _parts: Parts
    test_function: Any  # what `evaluate` calls; Keras' own attribute
    predict_function: Any  # what `predict` calls

    @alone
    def evaluate(self, x: Any = None, *args: Any, initial_state: Any = None, **kwargs: Any) -> Any:
        """Return the loss and the metrics on windows. The training states stay as they are.

        Args:
            x: `Windows` with targets.
            args: The further arguments of `keras.Model.evaluate` by position, which Keras calls `y`, `batch_size` and so
                on. Targets, weights and the batch size belong to `Windows`, and are refused here.
            initial_state: State from which the sequences start, with one row for each key in `x.keys`. By default they
                start from the initial state of the model.
            kwargs: As in `keras.Model.evaluate`.

        Returns:
            As `keras.Model.evaluate`. With targets per sequence, the loss and the metrics are the means over sequences.

        Raises:
            DataError: If the data are not `Windows`, lack targets, or do not fit the network.
        """
        if self._parts.feeder.gave(x):  # by Keras, within `fit`
            result = super().evaluate(x, *args, **kwargs)
            self._parts.feeder.finished(x)
            return result
        kwargs = read_call("evaluate", x, args, kwargs)
        x = self._bound_inference(check_windows(self, x, argument="x", targets=True), initial_state)
        with variables_kept(self), explained():
            return self._fed(super().evaluate, x, **kwargs)

    @alone
    def predict(
        self, x: Any, *args: Any, initial_state: Any = None, return_state: bool = False, **kwargs: Any
    ) -> dict[Any, Any] | tuple[dict[Any, Any], State]:
        """Return the outputs for every step of every sequence. The training states stay as they are.

        Args:
            x: `Windows`, of arrays or of a source, or a dataset of your own.
            args: The further arguments of `keras.Model.predict` by position; `batch_size` must be `None`.
            initial_state: State from which the sequences start, with one row for each key in `x.keys`.
            return_state: Whether to return the state at the end of each sequence, too.
            kwargs: As in `keras.Model.predict`.

        Returns:
            `{key: (time, outputs)}` in time order, or `{key: (windows, outputs)}` for an output per window. A network with
            strides over time gives `{key: (time / strides, outputs)}`. With
            `Windows(..., targets="sequence")` it is that of the last window, `{key: (outputs,)}`. For several outputs, the
            value of each key has the structure of the outputs. With `return_state=True` also a `State` with one row for each
            key in `x.keys`.

        Raises:
            DataError: If the data are not `Windows`, or do not fit the network; if a sequence of a dataset of your own
                begins twice; or if layers that `time_mixing="allow"` lets in change the number of steps.
        """
        kwargs = read_call("predict", x, args, kwargs)
        source = check_windows(self, x, argument="x", targets=False)
        x = source.windows
        x.check_predictable()
        bound = self._bound_inference(source, initial_state)
        with variables_kept(self):
            outputs = self._fed(super().predict, bound, **kwargs)
        kinds = by_output(self.net, x.targets, "y")
        rates = self._parts.strides.outputs
        per_step = [rate if kind in (None, "steps") else 0 for rate, kind in zip(rates, kinds, strict=True)]
        check_sizes(self.net, outputs, per_step, x.max_length)
        result: dict[Any, Any] = x.assemble(unstacked(outputs, x.rows), per_step=per_step)
        result = last_windows(result, [kind == "sequence" for kind in kinds])
        slots = np.arange(1, len(x.keys) + 1)
        if group().ranks > 1:
            with explained():
                result = exchange_outputs(result, x)
                exchange_rows(self._parts.inference, slots, x)
        return (result, self._parts.inference.read(slots)) if return_state else result

    def make_test_function(self, force: bool = False) -> None:
        """Make the function that `evaluate` calls. Several processes meet in its steps."""
        made = self.test_function
        super().make_test_function(force)
        if self.test_function is not made and group().ranks > 1:
            count = self.steps_per_execution
            self.test_function = rank_kernels().compiled(self.test_function, self.test_step, count)
        elif self.test_function is not made:
            self.test_function = kernels().steps_of(self, self.test_function)

    def make_predict_function(self, force: bool = False) -> None:
        """Make the function that `predict` calls."""
        made = self.predict_function
        super().make_predict_function(force)
        if self.predict_function is not made:
            self.predict_function = kernels().steps_of(self, self.predict_function)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the metrics. Of several processes, they are those of all, but within a step those of this one."""
        own = super().get_metrics_result
        results: dict[str, Any] = own() if group().ranks == 1 or self._parts.in_step else merged_metrics(self, own)
        return results

    def _bound_inference(self, source: Source, initial_state: Any) -> BoundWindows:
        """Bind windows to rows of the inference bank, which start from the given or the initial states."""
        prepare_start(self.start, source)
        windows = source.windows
        rows = len(windows.keys)
        given = None if initial_state is None else checked(self.state_spec, initial_state, batch_size=rows)
        given = None if given is None else checked(self.state_spec, given.numpy())
        bank = self._parts.inference
        if bank.reserve(rows):
            forget_compiled(self, "test", "predict")
        drop_outdated(self, self._parts.made_for, windows, "test_function", "predict_function")
        slots = np.arange(1, rows + 1, dtype=np.int32)
        bank.clear_flags()
        self._parts.inferred.forget()
        if given is not None:
            bank.write(slots, given, GIVEN)
        return BoundWindows(source, slots, training=False)

    def _fed(self, function: Callable[..., Any], data: BoundWindows, **kwargs: Any) -> Any:
        """Call Keras' `fit`, `evaluate` or `predict` on windows that are loaded ahead."""
        return self._parts.feeder.run(function, data, self.steps_per_execution, **kwargs)
