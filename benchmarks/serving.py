"""Measures a push in process, over REST, over WebSocket and with Triton's binary tensors, in turns in one run.

    KERAS_BACKEND=jax python benchmarks/serving.py [--seconds 2] [--units 64]

The server runs in another process. A line shows the median and the 99th percentile of a call, in milliseconds.
"""

import argparse
import http.client
import json
import multiprocessing
import socket
import time
from contextlib import ExitStack

import keras
import numpy as np
from streaming import build, measure, streamed
from websockets.sync.client import connect

from rnnstate import stores
from rnnstate.serving.server import Host
from rnnstate.streaming.streamer import engine_of


def serve(units, port):
    """Serve the model of `build` until the process ends."""
    import uvicorn

    model, _ = build(units)
    host = Host(engine_of(model), lambda on_evict: stores.MemoryStore(), "net", "benchmark", max_batch=8, max_delay=0.0)
    host.streamer.warmup(steps=[1])
    listening = socket.create_server(("127.0.0.1", port))
    uvicorn.Server(host.config()).run([listening])


def over_rest(port):
    """Return a call that pushes one step as JSON, on a connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps({"x": [1.0, 1.0]})

    def call():
        connection.request("POST", "/sessions/rest/push", body)
        return json.loads(connection.getresponse().read())["y"]

    return call


def over_triton(port, name):
    """Return a call of NVIDIA's client with binary tensors."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    x = triton.InferInput(name, [2], "FP32")
    x.set_data_from_numpy(np.ones(2, "float32"))
    client.infer("net", [x], sequence_id="triton", sequence_start=True)
    return lambda: client.infer("net", [x], sequence_id="triton").get_response()


def over_socket(port, stack):
    """Return a call that pushes one step over a WebSocket, which the stack closes."""
    connection = stack.enter_context(connect(f"ws://127.0.0.1:{port}/sessions/socket/ws", compression=None))

    def call():
        connection.send('{"x": [1.0, 1.0]}')
        return json.loads(connection.recv())["y"]

    return call


def wait_for(port):
    """Wait until the server answers."""
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("The server did not start.")


def main():
    """Print a table of times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--port", type=int, default=18471)
    given = parser.parse_args()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(given.units, given.port), daemon=True)
    server.start()
    model, _ = build(given.units)
    wait_for(given.port)
    connection = http.client.HTTPConnection("127.0.0.1", given.port)
    connection.request("GET", "/v2/models/net")
    name = json.loads(connection.getresponse().read())["inputs"][0]["name"]
    with ExitStack() as stack:
        calls = {
            "push in process": streamed(model, 1, 1),
            "push over WebSocket": over_socket(given.port, stack),
            "push over REST, JSON": over_rest(given.port),
            "tritonclient, binary": over_triton(given.port, name),
        }
        times = measure(calls, given.seconds)
    server.terminate()
    print(f"{keras.config.backend()}, LSTM of {given.units} units, 1 row of 1 session")
    for name, values in times.items():
        print(f"{name:24s} {np.median(values) * 1e3:9.3f} {np.quantile(values, 0.99) * 1e3:9.3f}   {len(values)} calls")


if __name__ == "__main__":
    main()
