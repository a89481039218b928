"""`rnnstate serve`: a streamer behind HTTP and WebSocket.

| file | idea |
|---|---|
| `server` | runs the application until a signal, then finishes what was accepted |
| `app` | puts the routes together |
| `gate` | what every request passes: origin, token, rate, metrics, log |
| `service` | calls of the streamer: order per session, time-outs, limits, the last ones at a stop |
| `turns` | calls of one session run one after the other |
| `refusals` | from errors to answers with a status |
| `tokens` | tokens, and the sessions that belong to each |
| `limits` | limits on body, keys, length and rate |
| `bodies` | reads what a client sent |
| `described` | the model as clients see it |
| `tensors` | tensors of the Open Inference Protocol, as JSON or binary |
| `inference` | the routes of the Open Inference Protocol |
| `sessions` | the routes of sessions, states and checkpoints |
| `sockets` | one WebSocket for each session |
| `pages` | the page at `/`, the list of routes, metrics |
| `overview`, `heatmap`, `activity` | the page at `/`: sessions, rates, the state over time |
| `metrics`, `logs` | numbers for Prometheus, and lines of JSON |

It needs FastAPI and uvicorn: `pip install "rnnstate[serve]"`. Nothing here imports Keras.
"""
