"""Pictures of what the state does. Each function returns a `matplotlib.figure.Figure` and shows nothing.

Install them with `pip install "rnnstate[plot]"`. In the order in which you need them:

| function | file | what it answers |
|---|---|---|
| `error_by_position` | `error_profile` | is the state carried, and does it help? |
| `forgetting` | `forgetting_curve` | how long does a difference in the state survive? |
| `gradient_by_lag` | `gradient_profile` | does truncation cut off what the network could learn? |
| `states` | `state_map` | what do h and c do over time? |
| `gate_saturation` | `gate_scatter` | are the gates of an LSTM or a GRU stuck? |
| `drift` | `state_drift` | does the state settle, grow or explode? |
| `portrait` | `phase_portrait` | in how many dimensions does the state move? |
| `neighbours` | `nearest_states` | when was the model in a state like this one? |
| `lanes` | `lane_chart` | which sequence does each row of each batch hold? |
| `forecast` | `forecast_chart` | how good are the predictions? |

`canvas` makes the figures. The numbers are in `insight/numbers/`.
"""

from rnnstate.insight.plots.error_profile import error_by_position
from rnnstate.insight.plots.forecast_chart import forecast
from rnnstate.insight.plots.forgetting_curve import forgetting
from rnnstate.insight.plots.gate_scatter import gate_saturation
from rnnstate.insight.plots.gradient_profile import gradient_by_lag
from rnnstate.insight.plots.lane_chart import lanes
from rnnstate.insight.plots.nearest_states import neighbours
from rnnstate.insight.plots.phase_portrait import portrait
from rnnstate.insight.plots.state_drift import drift
from rnnstate.insight.plots.state_map import states

__all__ = [
    "error_by_position",
    "forgetting",
    "gradient_by_lag",
    "states",
    "gate_saturation",
    "drift",
    "portrait",
    "neighbours",
    "lanes",
    "forecast",
]
