"""The law of a server on each backend: what it answers, chunk by chunk, is what `predict` gives for the whole."""

import keras
import numpy as np
from keras import layers

import nets
import rnnstate as rs
from hosting import Hosted
from rnnstate.streaming.opening import engine_of

TOLERANCE = 1e-6


def test_served_answers_equal_predict_of_the_whole():
    """Two sessions in turns, over both protocols, equal `predict`; a session that restarts halfway does not."""
    lstm = layers.LSTM(5, return_sequences=True, name="lstm")
    model = nets.make(lambda: keras.Sequential([nets.series_input(), lstm, layers.Dense(2)]))
    x = nets.series((7, 7), seed=3)
    whole = model.predict(rs.Windows(x, length=7, batch_size=2))
    hosted = Hosted(engine_of(model), name="net", max_batch=2, max_steps=4)
    name = hosted.host.served.inputs[0].name
    parts = {key: [] for key in x}
    with hosted.client() as client:
        for begin, end in ((0, 1), (1, 3), (3, 7)):
            for key, value in x.items():
                given = value[begin:end]
                if key == "k0":
                    y = client.post(f"/sessions/{key}/push", json={"x": given.tolist()}).json()["y"]
                else:
                    tensor = {"name": name, "datatype": "FP32", "shape": given.shape, "data": given.ravel().tolist()}
                    parameters = {"sequence_id": key, "sequence_start": begin == 0}
                    sent = {"inputs": [tensor], "parameters": parameters}
                    y = client.post("/v2/models/net/infer", json=sent).json()["outputs"][0]
                    y = np.reshape(y["data"], y["shape"])
                parts[key].append(y)
        again = client.post("/sessions/k0/push", json={"x": x["k0"][3:].tolist(), "restart": True}).json()["y"]
    hosted.stop()
    for key in x:
        assert nets.difference(whole[key], np.concatenate(parts[key])) < TOLERANCE
    assert nets.difference(whole["k0"][3:], np.array(again)) > 0.01
