"""`compile` and `fit` of `StatefulModel`: Keras' methods on windows that carry their states."""

from typing import Any

import keras

from rnnstate.kernels import kernels as backend_kernels
from rnnstate.kernels.ranks import rank_kernels
from rnnstate.kernels.ranks.group import group
from rnnstate.model.compiled import drop_outdated
from rnnstate.model.guarded import alone
from rnnstate.model.inference import Inference
from rnnstate.model.plain import is_known, is_plain
from rnnstate.model.ranked import exchange_states, in_part, joined
from rnnstate.model.scored import scored
from rnnstate.network.masks import honouring_masks
from rnnstate.network.outputs import output_names
from rnnstate.training.building import build_before_tracing
from rnnstate.training.class_weights import ClassWeights
from rnnstate.training.fit_checks import check_windows, prepare_start
from rnnstate.training.fit_hooks import paced, variables_kept
from rnnstate.training.keras_calls import read_call
from rnnstate.training.loader import BoundWindows
from rnnstate.training.resume.fit import fit_resumably
from rnnstate.windows.batch import is_stacked


class Fitting(Inference):
    """The methods of `StatefulModel` that train."""

    train_function: Any  # what `fit` calls; Keras' own attribute

    @property
    def output_names(self) -> list[str]:
        """The name of each output. Keras names losses and metrics after them, and finds losses by them."""
        return output_names(self._parts.net)

    def compile(self, *args: Any, metrics: Any = None, weighted_metrics: Any = None, **kwargs: Any) -> None:
        """Configure the model for training. The arguments are those of `keras.Model.compile`."""
        self._chosen_jit = kwargs.get("jit_compile", "auto")
        self._metrics_given = [metrics, weighted_metrics]
        super().compile(
            *args, metrics=honouring_masks(metrics), weighted_metrics=honouring_masks(weighted_metrics), **kwargs
        )

    def make_train_function(self, force: bool = False) -> None:
        """Make the function that `fit` calls. On JAX it runs `steps_per_execution` steps in one compiled call."""
        made = self.train_function
        super().make_train_function(force)
        if self.train_function is not made and group().ranks > 1:
            count = self.steps_per_execution
            self.train_function = rank_kernels().compiled(self.train_function, self.train_step, count)
        elif self.train_function is not made:
            self.train_function = backend_kernels().many_steps(
                self, self.train_function, is_stacked, self._parts.feeder.stack_of
            )

    def is_plain(self) -> bool:
        """Tell whether all code of a training step belongs to Keras or this package, so that a trace misses nothing."""
        return is_plain(self, self._parts.stepper.layers(), [self.loss, *self._metrics_given])

    def has_plain_optimizer(self) -> bool:
        """Tell whether all code of the optimizer belongs to Keras."""
        return is_known(self.optimizer)

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile`, for a file. It keeps `jit_compile="auto"`, for the backend that loads it."""
        config: dict[str, Any] = super().get_compile_config()
        return {**config, "jit_compile": "auto"} if config and self._chosen_jit == "auto" else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model in the same way as the saved one.

        On PyTorch a loaded model does not use `torch.compile`, which takes a minute before the first batch. Files of release
        0.1 ask for it if they were written on JAX, where `"auto"` meant `True`. Call `compile(..., jit_compile=True)` to
        use it.
        """
        arguments = keras.saving.deserialize_keras_object(config)
        if keras.config.backend() == "torch":
            arguments["jit_compile"] = "auto"
        self.compile(**arguments)
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Compute the loss without the padded steps."""
        parts = scored(self.net, self._parts.strides, x, y, y_pred, sample_weight, metrics=False)
        if group().ranks > 1 and self._parts.in_step:
            parts = in_part(parts)
        return super().compute_loss(x, parts.y, parts.y_pred, parts.sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Update the metrics without the padded steps."""
        parts = scored(self.net, self._parts.strides, x, y, y_pred, sample_weight, metrics=True)
        return super().compute_metrics(x, parts.y, parts.y_pred, parts.sample_weight)

    def exchange_states(self, windows: Any) -> None:
        """Give all processes the states of all sequences. Until the end of an epoch each has those of its own alone."""
        exchange_states(self, windows)

    @alone
    def fit(self, x: Any = None, *args: Any, checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train on windows. Each starts from the state in which the previous window of its sequence ended.

        Args:
            x: `Windows` with targets. In every epoch each sequence starts from its initial state, or from the state that
                `states.write` gave.
            args: The further arguments of `keras.Model.fit` by position. Targets, weights and the batch size belong to
                `Windows`, and are refused here.
            checkpoint: Folder, or `rnnstate.Checkpoint`, for checkpoints. If the process is killed, the same call continues
                from the last checkpoint and gives bit for bit the result of an uninterrupted run.
            kwargs: As in `keras.Model.fit`. `validation_data` is `Windows` with targets, which start from their initial
                states and use the inference bank. `class_weight` weighs each target, also where there is one per step; for
                several outputs it is `{output name: {class: weight}}`. `shuffle` must be False.

        Returns:
            Keras' `History`.

        Raises:
            DataError: If the data are not `Windows`, lack targets, do not fit the network or would be shuffled, or if no
                checkpoint in the folder is usable.
            SpecMismatchError: If the checkpoints in the folder belong to another run.
        """
        kwargs = read_call("fit", x, args, kwargs)
        validation_data = kwargs.pop("validation_data", None)
        begin = int(kwargs.get("initial_epoch") or 0)
        source = check_windows(self, x, argument="x", targets=True, training=True, epoch=begin)
        x = source.windows
        if kwargs.get("class_weight") is not None:
            source.class_weights = ClassWeights(self.net, kwargs["class_weight"])
            source.forget()
        if validation_data is not None:
            checked_data = check_windows(self, validation_data, argument="validation_data", targets=True)
            validation_data = self._bound_inference(checked_data, None)
        prepare_start(self.start, source)
        build_before_tracing(self, source.first())
        drop_outdated(self, self._parts.made_for, x, "train_function")
        kwargs["shuffle"] = False
        self._parts.trained.forget()
        keras_fit = super().fit

        def fit(data: BoundWindows, class_weight: Any = None, **others: Any) -> Any:
            return self._fed(keras_fit, data, **others)  # the batches hold the weights of classes

        with (
            variables_kept(self),
            joined(self, source, kwargs),
            paced(self, x, kwargs.get("callbacks")) as kwargs["callbacks"],
        ):
            if checkpoint is not None:
                return fit_resumably(self, fit, source, validation_data, checkpoint, kwargs)
            bound = BoundWindows(source, self.states.reserve(x.keys), ended=self.keep_ahead)
            return fit(bound, validation_data=validation_data, **kwargs)
