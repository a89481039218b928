"""The common part of `MinGRU` and `MinLSTM`: one projection of the input into gates and a candidate."""

from typing import Any

from keras import activations, constraints, initializers, layers, ops, regularizers

from rnnstate.layers.base import LinearRecurrence, Shape
from rnnstate.state.state import Array


class GatedRecurrence(LinearRecurrence):
    """Base of the layers whose gates are projections of the input.

    Args:
        units: The size of the state and of the output.
        activation: The activation of the candidate.
        use_bias: Whether the projection has a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        **kwargs: The arguments of `LinearRecurrence`.
    """

    parts = 2  # the gates and the candidate, side by side in the kernel

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        self.activation, self.use_bias = activations.get(activation), use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        self.features = sequences_shape[-1]
        self.input_spec = layers.InputSpec(ndim=3, axes={-1: self.features})
        self.kernel = self.add_weight(
            shape=(self.features, self.parts * self.units),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.parts * self.units,),
                name="bias",
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def projections(self, x: Array) -> list[Array]:
        """Return the gates before their sigmoid, then the candidate, each `(batch, time, units)` in the weights' dtype."""
        y = ops.matmul(x, self.kernel)
        y = y if self.bias is None else y + self.bias
        # In half precision, a decay close to 1 would round to 1, and sums over many steps would lose their small parts.
        *gates, candidate = ops.split(ops.cast(y, self.variable_dtype), self.parts, axis=-1)
        return [*gates, self.activation(candidate)]

    def get_config(self) -> dict[str, Any]:
        kinds = {"initializer": initializers, "regularizer": regularizers, "constraint": constraints}
        own = {
            f"{weight}_{kind}": module.serialize(getattr(self, f"{weight}_{kind}"))
            for weight in ("kernel", "bias")
            for kind, module in kinds.items()
        }
        activation = activations.serialize(self.activation)
        return {**super().get_config(), **own, "activation": activation, "use_bias": self.use_bias}
