"""The plots: each returns a figure with labels and with the data that it was given. The numbers have tests of their own."""

import sys

import numpy as np
import pytest
from keras import layers
from matplotlib import figure as figures

import nets
import rnnstate as rs
from rnnstate import plots
from rnnstate.insight.plots import canvas

SERIES, TIME, LENGTH = 3, 47, 7


@pytest.fixture(scope="module")
def run():
    """A model with random weights, and windows with targets of named sequences of two lengths."""
    model = rs.StatefulModel(nets.small())
    x = {f"key {row}": nets.values(TIME - 5 * (row == 2), nets.FEATURES, seed=row) for row in range(SERIES)}
    y = {key: nets.values(len(part), 1, seed=9) for key, part in x.items()}
    return model, rs.Windows(x, y, length=LENGTH, batch_size=2)


LABELS = {
    "error_by_position": ("position in the window (steps)", "RMSE"),
    "forgetting": ("steps after the reset", "difference that is left"),
    "gradient_by_lag": ("lag k (steps)", "norm of the gradient\nby the state k steps before"),
    "states": ("", "lstm/h\nunit"),
    "gate_saturation": ("share of steps above 0.9", "share of steps below 0.1"),
    "drift": ("step (a window begins at each dotted line)", "root mean square of the units"),
    "portrait": ("component 1", "component 2"),
    "neighbours": ("steps from the state", "first input"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("error_by_position", "states") else pytest.mark.once) for name in LABELS],
)
def test_each_plot_of_a_model_is_a_figure(name, run, tmp_path):
    """Each plot takes a model with windows, labels its axes, can be saved, and leaves the training states alone."""
    model, windows = run
    figure = getattr(plots, name)(model, windows)
    assert isinstance(figure, figures.Figure)
    panel = figure.axes[0]
    assert panel.get_xlabel().startswith(LABELS[name][0])
    assert panel.get_ylabel().startswith(LABELS[name][1])
    figure.savefig(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 5000
    assert model.states.keys == ()


@pytest.mark.once
def test_the_list_of_plots_is_whole():
    """Each public plot is tested above or below."""
    assert set(plots.__all__) == {*LABELS, "lanes", "forecast"}


@pytest.mark.once
def test_curves_show_their_data():
    """The lines of a figure hold the numbers that were given, and marks stand where they belong."""
    carried, reset = np.linspace(0.2, 0.2, 9), np.linspace(0.9, 0.2, 9)
    lines = plots.error_by_position({"carried": carried, "reset": reset}, unit="kW").axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [carried.tolist(), reset.tolist()]
    curve = 0.9 ** np.arange(30)
    panel = plots.forgetting(curve, length=11).axes[0]
    places = {line.get_label(): line.get_xdata()[0] for line in panel.get_lines()[1:]}
    assert places["window: 11 steps"] == 11
    assert places["half-life: 6.6 steps"] == pytest.approx(np.log(2) / -np.log(0.9))
    assert np.abs(panel.get_lines()[0].get_ydata() - curve).max() < 1e-12
    panel = plots.gradient_by_lag(curve[1:], length=5).axes[0]
    assert panel.get_lines()[1].get_xdata()[0] == 5
    truth = {"a": np.arange(20.0), "b": np.arange(13.0)}
    panels = plots.forecast(truth, {"b": truth["b"] + 2, "a": truth["a"]}, steps=5, name="load", unit="kW").axes
    assert [panel.get_title("left") for panel in panels] == ["b   RMSE 2", "a   RMSE 0"]
    assert panels[0].get_lines()[1].get_ydata().tolist() == [10, 11, 12, 13, 14]
    assert panels[0].get_ylabel() == "load (kW)"


@pytest.mark.once
def test_a_heat_map_shows_one_sequence_with_windows_and_resets():
    """The map of a key holds its state, without padding; dotted lines and triangles stand at windows and resets."""
    model = rs.StatefulModel(nets.small())
    x = {"a": nets.values(17, nets.FEATURES), "b": nets.values(11, nets.FEATURES, seed=1)}
    resets = {"a": np.zeros(17), "b": np.arange(11) == 5}
    windows = rs.Windows(x, length=3, batch_size=2, resets=resets)
    figure = plots.states(model, windows, key="b")
    panel = figure.axes[0]
    assert panel.get_images()[0].get_array().shape == (5, 11)
    assert panel.get_title("left") == "sequence b"
    lines = {line.get_marker(): line for line in panel.get_lines()}
    assert lines["v"].get_xdata().tolist() == [5]
    dotted = [line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"]
    assert dotted == [2.5, 5.5, 8.5]
    _, _, trace = model.trace(x["a"][None], model.initial_state(1))
    shown = plots.states(trace, leaves=["lstm/c"]).axes[0].get_images()[0].get_array()
    assert np.abs(shown - np.asarray(rs.State(trace).numpy()["lstm/c"])[0].T).max() < 1e-6


@pytest.mark.once
def test_lanes_show_the_plan():
    """Each window is a box with its key in its batch and row; triangles stand where a row starts fresh."""
    x = {"a": np.ones((7, 1)), "b": np.ones((4, 1)), "c": np.ones((2, 1))}
    windows = rs.Windows(x, length=2, batch_size=2)
    panel = plots.lanes(windows).axes[0]
    written = {(int(text.get_position()[0]), text.get_position()[1]): text.get_text() for text in panel.texts}
    plan = windows.plan
    expected = {
        (batch, row): windows.keys[plan.sequence[batch, row]]
        for batch in range(plan.num_batches)
        for row in range(plan.rows)
        if plan.sequence[batch, row] >= 0
    }
    assert written == expected
    begins = {(int(line.get_xdata()[0]), round(line.get_ydata()[0] + 0.36)) for line in panel.get_lines()}
    assert begins == {place for place in expected if plan.first[place]}


@pytest.mark.once
def test_colours_of_a_portrait_and_its_refusal(run):
    """By key, each sequence has a line with its name; another colour is refused."""
    model, windows = run
    panel = plots.portrait(model, windows, colour="key", keys=["key 2", "key 0"]).axes[0]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["key 2", "key 0"]
    with pytest.raises(rs.DataError, match=r"`colour` must be 'time' or 'key'. Received: colour='rainbow'"):
        plots.portrait(model, windows, colour="rainbow")


@pytest.mark.once
def test_what_cannot_be_drawn_is_refused(run):
    """What is no trace, no windows, no key or no gate is named, with the way out."""
    model, windows = run
    with pytest.raises(rs.DataError, match="together with `windows`, or a trace"):
        plots.states(model)
    with pytest.raises(rs.DataError, match=r"leaves \(batch, time, \*shape\). Received: lstm/h, shape=\(3, 5\)"):
        plots.drift({"lstm/h": np.zeros((3, 5))})
    with pytest.raises(rs.DataError, match=r"`windows` must be `rnnstate.Windows`. Received: list"):
        plots.states(model, [1, 2])
    with pytest.raises(rs.UnknownKeyError, match=r"'key 0', 'key 1', 'key 2'. Received: 'north'"):
        plots.states(model, windows, key="north")
    with pytest.raises(rs.UnknownKeyError, match=r"Received: 'north'. Name it in `keys`"):
        plots.neighbours(model, windows, key="north")
    with pytest.raises(rs.DataError, match="needs an LSTM or a GRU that carries"):
        plots.gate_saturation(rs.StatefulModel(nets.one(layers.SimpleRNN(5, return_sequences=True))), windows)
    with pytest.raises(rs.DataError, match="differs from its initial state"):
        plots.forgetting(np.zeros((0, 5)))
    with pytest.raises(rs.DataError, match=r"must have the same keys. Received: 1 and 2 sequences"):
        plots.forecast({"a": np.zeros(3)}, {"a": np.zeros(3), "b": np.zeros(3)})
    with pytest.raises(rs.DataError, match=r"the same steps. Received: 3 and 4 steps of sequence 'a'"):
        plots.forecast({"a": np.zeros(3)}, {"a": np.zeros(4)})


@pytest.mark.once
def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    """Where matplotlib is missing, a plot says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(rs.DataError, match=r'pip install "rnnstate\[plot\]"'):
        canvas.new_figure()
