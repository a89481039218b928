"""The walk through a network, node by node, that gives each node its class and follows the time axis of each tensor.

Nothing is computed, except where the table does not know a node and the probe runs it on small random inputs. The walk
clones the graph of the network with `keras.models.clone_model`, with a stand-in for each node, and calls no layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree

from rnnstate.network.clone import is_container
from rnnstate.network.stand_in import PortLayer
from rnnstate.network.time_mixing.advice import advice
from rnnstate.network.time_mixing.axis import Axis, Verdict, axes_of_inputs, joined
from rnnstate.network.time_mixing.cases import Node
from rnnstate.network.time_mixing.lost_masks import Lost, Masks
from rnnstate.network.time_mixing.probe import Probed, dependence, probe
from rnnstate.network.time_mixing.table import known, known_operation
from rnnstate.network.time_mixing.verdict import Mixing
from rnnstate.ports.convolution import strides_of
from rnnstate.ports.recurrent import runs_backward
from rnnstate.ports.registry import has_port, why_not_carried
from rnnstate.ports.running_sum import RunningSum


@dataclass(frozen=True)
class Followed:
    """What a walk through a network finds.

    Args:
        mixing: The nodes that mix time and that nothing carries, in the order of the network.
        unsized: The layers that give outputs with an axis of any size that holds no steps of the window.
        rates: For each layer with strides, by path, for how many steps of the window its output has one entry.
        input_rates: The same for the input of each layer whose memory is carried, by the `id` of the layer.
        output_rates: The same for each output of the network; 1 for an output without a time axis.
    """

    mixing: list[Mixing] = field(default_factory=list)
    unsized: list[str] = field(default_factory=list)
    rates: dict[str, int] = field(default_factory=dict)
    input_rates: dict[int, int] = field(default_factory=dict)
    output_rates: list[int] = field(default_factory=list)


def follow(net: Any, carried: Callable[[Any], bool] | None = None) -> Followed:
    """Follow a network node by node.

    Args:
        net: A built Functional or Sequential network. It may contain other networks.
        carried: Tells for a layer whether its memory is carried. By default ports decide.
    """
    walk = _Walk(carried or is_carried)
    outputs = walk.network(net, [], "")
    unsized = walk.outputs(outputs)
    return Followed(walk.found, unsized, walk.strided, walk.input_rates, [walk.rate_of(symbol) for symbol in outputs])


def mixing_of(net: Any, carried: Callable[[Any], bool] | None = None) -> list[Mixing]:
    """Return the nodes of a network that mix time and that nothing carries, in the order of the network.

    Args:
        net: A built Functional or Sequential network. It may contain other networks.
        carried: Tells for a layer whether its memory is carried. By default ports decide.
    """
    return follow(net, carried).mixing


def without_steps(net: Any) -> list[str]:
    """Return the paths of the layers with a memory whose input has no steps of the window, such as decoders.

    A decoder runs over steps that are made from one value of the window, for example by `RepeatVector`.
    """
    walk = _Walk(is_carried)
    walk.network(net, [], "")
    return list(dict.fromkeys(walk.without_steps))


def is_carried(layer: Any) -> bool:
    """Whether a port runs the layer. A layer that runs backward starts fresh by a documented rule, which counts too."""
    return isinstance(layer, PortLayer) or has_port(layer) or runs_backward(layer)


def is_carried_without_strides(layer: Any) -> bool:
    """Whether a port runs the layer in a model whose layers with strides over time take each window by itself."""
    return isinstance(layer, PortLayer) or (is_carried(layer) and strides_of(layer) == 1)


class _Recorded(keras.Operation):
    """Stands for one node in the copy of the graph. It computes nothing."""

    def __init__(self, specs: list[Any]) -> None:
        super().__init__()
        self.specs = specs

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.specs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.specs


class _Walk:
    """One walk. It keeps what every tensor holds, by the `id` of its symbol, and the nodes that mix time.

    Args:
        carried: Tells for a layer whether its memory is carried.
    """

    def __init__(self, carried: Callable[[Any], bool]) -> None:
        self.found: list[Mixing] = []
        self.without_steps: list[str] = []
        self.strided: dict[str, int] = {}
        self.input_rates: dict[int, int] = {}
        self._carried = carried
        self._rates: dict[int, int] = {}
        self._axes: dict[int, Axis] = {}
        self._masks = Masks()
        self._makers: dict[int, Node] = {}
        self._symbols: list[Any] = []  # kept alive, because their ids are keys

    def network(self, net: Any, given: Sequence[Any], prefix: str, mask: Any = None) -> list[Any]:
        """Follow one network.

        Args:
            net: The network.
            given: The symbols with which another network calls it; empty for the outermost network.
            prefix: The path of the network, with a slash.
            mask: The symbols of the masks with which another network calls it, if it names them.

        Returns:
            The symbols of its outputs.
        """
        graph = keras.Model(net.inputs, net.outputs, name=net.name)
        shapes = given or graph.inputs
        inputs = [
            keras.Input(batch_shape=symbol.shape, dtype=symbol.dtype, name=f"input_{number}")
            for number, symbol in enumerate(shapes)
        ]
        axes = [self._axes[id(symbol)] for symbol in given] or axes_of_inputs(inputs)
        self._mark(inputs, axes, [self.rate_of(symbol) for symbol in given] or [1] * len(inputs))
        if given:
            self._masks.enter(inputs, given, mask)

        def follow(call: Any, *args: Any, **kwargs: Any) -> Any:
            return self._node(call, args, kwargs, prefix)

        copy = keras.models.clone_model(graph, inputs, clone_function=lambda layer: layer, call_function=follow)
        return list(copy.outputs)

    def rate_of(self, symbol: Any) -> int:
        """Return for how many steps of the window a tensor has one entry; 1 without a time axis."""
        return self._rates[id(symbol)] if self._axes[id(symbol)] is Axis.STEPS else 1

    def _mark(self, symbols: Sequence[Any], axes: Sequence[Axis], rates: Sequence[int]) -> None:
        self._symbols += symbols
        self._axes |= {id(symbol): axis for symbol, axis in zip(symbols, axes, strict=True)}
        self._rates |= {id(symbol): rate for symbol, rate in zip(symbols, rates, strict=True)}

    def _node(self, call: Any, args: Any, kwargs: Any, prefix: str) -> list[Any]:
        """Give a node its class, and return the symbols of its outputs."""
        node = Node(f"{prefix}{call.name}", call, args, kwargs, self._axes)
        inner: list[Any] = []
        if is_container(call):
            given = [part for part in tree.flatten(args) if keras.backend.is_keras_tensor(part)]
            # a mask is an argument, not an input
            inner = self.network(call, given, f"{node.path}/", kwargs.get("mask"))
            specs, axes = [_like(symbol) for symbol in inner], [self._axes[id(symbol)] for symbol in inner]
            rates = [self.rate_of(symbol) for symbol in inner]
        else:
            specs = [_like(spec) for spec in tree.flatten(call.compute_output_spec(*args, **kwargs))]
            rate, even = self._rate_after(node)
            rates, axes = [rate] * len(specs), self._classified(node, specs) if even else [Axis.STEPS] * len(specs)
        symbols: list[Any] = tree.flatten(_Recorded(specs)(*node.symbols))
        self._mark(symbols, axes, rates)
        if is_container(call):
            self._masks.copy(symbols, inner)
            makers = [self._makers.get(id(symbol), node) for symbol in inner]
        else:
            makers = [node for _ in symbols]
            self._note_lost(self._masks.follow(node, symbols))
        self._makers |= {id(symbol): maker for symbol, maker in zip(symbols, makers, strict=True)}
        return symbols

    def _rate_after(self, node: Node) -> tuple[int, bool]:
        """Return the rate of the outputs of a node, and whether its series have one rate. If not, the node is noted."""
        series = [s for s, axis in zip(node.symbols, node.axes, strict=True) if axis is Axis.STEPS]
        rates = sorted({self._rates[id(symbol)] for symbol in series})
        rate, layer = (rates or [1])[-1], node.call
        if isinstance(layer, keras.Layer) and self._carried(layer) and rates:
            rates = sorted({*rates, self.input_rates.setdefault(id(layer), rate)})
            inner = layer.layer if isinstance(layer, PortLayer) else layer
            if strides_of(inner) > 1:
                rate *= strides_of(inner)
                self.strided[node.path] = rate
        if len(rates) > 1:
            each = "each step" if rates[0] == 1 else f"every {rates[0]} steps"
            what = f"takes a series with an entry for every {rates[-1]} steps, and one with an entry for {each}"
            self._note(node, what, reason="its series have different strides. Give them the same strides")
        return rate, len(rates) < 2

    def outputs(self, symbols: Sequence[Any]) -> list[str]:
        """Note the outputs of the outermost network that hold masked steps of attention without their mask.

        Returns:
            The layers whose outputs have an axis of any size that holds no steps of the window.
        """
        made = [(symbol, self._makers[id(symbol)]) for symbol in symbols if id(symbol) in self._makers]
        for symbol, maker in made:
            self._note_lost(self._masks.of_output(symbol, maker))
        return [
            maker.name
            for symbol, maker in made
            if len(symbol.shape) > 2 and symbol.shape[1] is None and self._axes[id(symbol)] is not Axis.STEPS
        ]

    def _note_lost(self, lost: Lost | None) -> None:
        """Note a node that reads masked steps of attention, unless the node mixes time in another way too."""
        if lost is not None and all(entry.path != lost.node.path for entry in self.found):
            self._note(lost.node, lost.what, reason=lost.way_out)

    def _classified(self, node: Node, specs: list[Any]) -> list[Axis]:
        """Return what each output of a node holds, and note a node that mixes time."""
        layer = node.call if isinstance(node.call, keras.Layer) else None
        if isinstance(layer, PortLayer) and isinstance(layer.layer, RunningSum) and Axis.STEPS not in node.axes:
            self._note(node, "sums values that are no steps of the window, and would carry the sum to the next window")
        if layer is not None and self._carried(layer):
            self.without_steps += [node.path] if Axis.STEPS not in node.axes else []
            return _of_carried(layer, node, specs)
        if Axis.STEPS not in node.axes:
            return self._without_time(node, specs)
        if any(axis in (Axis.LAST, Axis.SUMMARY) for axis in node.axes):
            return self._of_summary_and_steps(node, specs)
        found = _found(node, layer, specs)
        if found.verdict is Verdict.MIXES:
            self._note(node, found.what or dependence(node), found.tried)
        classes = found.outputs if len(found.outputs) == len(specs) else [found.verdict] * len(specs)
        return [Axis.SUMMARY if kind is Verdict.SUMMARISES else Axis.STEPS for kind in classes]

    def _without_time(self, node: Node, specs: list[Any]) -> list[Axis]:
        """A value for each window may become anything, except what looks like the steps of this window."""
        axis = joined(node.axes)
        ranks = [len(shape) for shape in node.shapes]
        fixed = set(self._fixed_times())
        for spec in specs if axis is Axis.SUMMARY else ():
            if len(spec.shape) > 2 and max(ranks) < len(spec.shape) and spec.shape[1] in fixed:
                self._note(node, "gives a summary of the window a time axis, so that each step depends on all steps")
                return [Axis.STEPS for _ in specs]
        return [axis for _ in specs]

    def _fixed_times(self) -> list[int]:
        """Return the numbers of steps of the series whose number of steps is fixed."""
        return [
            symbol.shape[1]
            for symbol in self._symbols
            if self._axes[id(symbol)] is Axis.STEPS and symbol.shape[1] is not None
        ]

    def _of_summary_and_steps(self, node: Node, specs: list[Any]) -> list[Axis]:
        """A summary of the window that meets its steps tells each step about later steps."""
        times = node.times
        joins = [len(spec.shape) > 1 and spec.shape[1] in times for spec in specs]
        if any(joins):
            self._note(node, "joins each step with a summary of its window, so that the step depends on later steps")
        return [Axis.STEPS if join else Axis.SUMMARY for join in joins]

    def _note(self, node: Node, what: str, tried: bool = True, reason: str = "") -> None:
        kind = node.kind if isinstance(node.call, keras.Layer) else ""
        reason = reason or (kind and why_not_carried(node.call)) or advice(node.call) or ""
        entry = Mixing(node.path, node.name, kind, what, reason, tried)
        if entry not in self.found:  # a nested network may be called twice
            self.found.append(entry)


def _found(node: Node, layer: Any, specs: list[Any]) -> Probed:
    """Return the class of a node that takes series."""
    if layer is None:
        verdict = known_operation(node.call, node.axes, node.shapes, node.constants)
    else:
        verdict = known(layer, node.axes, node.shapes)
    if verdict is not Verdict.UNKNOWN:
        return Probed(verdict)
    if node.times == {None} and all(None not in spec.shape[1:] for spec in specs):
        return Probed(Verdict.SUMMARISES)  # no axis has as many entries as there are steps
    return probe(node)


def _of_carried(layer: Any, node: Node, specs: list[Any]) -> list[Axis]:
    """Return what the outputs of a layer with a port hold."""
    if Axis.STEPS not in node.axes:
        return [Axis.LAST for _ in specs]
    inner = layer.layer if isinstance(layer, PortLayer) else layer
    if isinstance(inner, (keras.layers.RNN, keras.layers.Bidirectional)):
        both = isinstance(inner, keras.layers.Bidirectional) and inner.merge_mode is None
        outputs = 2 if both else 1
        axis = Axis.STEPS if inner.return_sequences else Axis.LAST
        return [axis if number < outputs else Axis.LAST for number in range(len(specs))]
    rank = len(node.shapes[0])
    return [Axis.STEPS if len(spec.shape) == rank else Axis.LAST for spec in specs]


def _like(spec: Any) -> Any:
    return keras.KerasTensor(spec.shape, dtype=spec.dtype)
