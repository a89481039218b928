"""The Open Inference Protocol with Triton's sequences: the model adds up its input, so each answer is known."""

import gzip
import json
import random
import threading

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException
from websockets.sync.client import connect

pytestmark = pytest.mark.once


def tensor(*values, shape=None):
    """Return the only input of the model as JSON."""
    return {"name": "x", "datatype": "FP64", "shape": shape or [len(values), 1], "data": list(values)}


def infer(http, key, *values, **parameters):
    """Return the answer to values of one sequence."""
    given = {f"sequence_{name}": value for name, value in {"id": key, **parameters}.items()}
    return http.post("/v2/models/sums/infer", json={"inputs": [tensor(*values)], "parameters": given})


def sums(answer):
    """Return the sums of an answer that must be fine."""
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert output["name"] == "y"
    return output["data"]


def test_metadata(http):
    """The server describes its model, and is live and ready. It does not know another model."""
    assert http.get("/v2").json()["extensions"] == ["binary_tensor_data", "sequence"]
    assert http.get("/v2/health/live").status_code == http.get("/v2/health/ready").status_code == 200
    about = http.get("/v2/models/sums").json()
    assert about["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}]
    assert http.get("/v2/models/sums/versions/1/config").json()["output"][0]["dims"] == ["-1", "1"]
    for path in ("/v2/models/other", "/v2/models/sums/versions/2/ready"):
        refused = http.get(path)
        assert (refused.status_code, refused.json()) == (
            404,
            {"error": "The model is `sums`, version 1. Received: another name or version."},
        )


def test_a_sequence_from_start_to_end(http, server):
    """A start restarts, an end forgets after the answer, and a sequence without a start is refused."""
    missing = infer(http, "a", 1.0)
    assert missing.status_code == 404
    assert "no such session" in missing.json()["error"]
    assert sums(infer(http, "a", 1.0, start=True)) == [1.0]
    assert sums(infer(http, "a", 2.0, 3.0)) == [3.0, 6.0]
    assert sums(infer(http, "a", 5.0, start=True)) == [5.0]  # a repeated start, and no end before it
    assert sums(infer(http, "a", 1.0, end=True)) == [6.0]
    assert "a" not in server.streamer
    assert sums(infer(http, 7, 4.0, start=True, end=True)) == [4.0]
    assert infer(http, 7, 1.0).status_code == 404


def test_a_repeated_number_is_answered_from_the_record(http):
    """With `sequence_number`, a push that is sent again counts once, and a gap is refused."""
    assert sums(infer(http, "n", 1.0, start=True, number=0)) == [1.0]
    for _ in range(2):
        assert sums(infer(http, "n", 2.0, number=1)) == [3.0]
    assert infer(http, "n", 2.0, number=3).status_code == 409
    assert sums(infer(http, "n", 2.0, number=2)) == [5.0]


def test_shapes_and_compression(http):
    """One step, a chunk and a batch of one have outputs of the same kind; a body may be compressed."""
    for shape, expected in (([1], [1]), ([1, 1], [1, 1]), ([1, 1, 1], [1, 1, 1])):
        given = {
            "inputs": [tensor(2.0, shape=shape)],
            "parameters": {"sequence_id": "s", "sequence_start": True},
            "id": "7",
        }
        packed = gzip.compress(json.dumps(given).encode())
        answer = http.post("/v2/models/sums/infer", content=packed, headers={"Content-Encoding": "gzip"}).json()
        assert (answer["id"], answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == ("7", expected, [2.0])


def test_nvidias_client(server):
    """`tritonclient.http` works unchanged: metadata, sequences by number and by text, binary and JSON, compression."""
    client = triton.InferenceServerClient(server.address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums", "1")
    assert client.get_model_metadata("sums")["platform"] == "test"
    assert client.get_model_config("sums")["max_batch_size"] == 0
    total = 0.0
    for step in range(5):
        x = triton.InferInput("x", [step + 1, 1], "FP64")
        x.set_data_from_numpy(np.full((step + 1, 1), 0.5), binary_data=step != 2)
        outputs = [None, [triton.InferRequestedOutput("y", binary_data=step != 3)]][step % 2]
        result = client.infer(
            "sums",
            [x],
            outputs=outputs,
            sequence_id=41,
            sequence_start=step == 0,
            sequence_end=step == 4,
            request_compression_algorithm="gzip" if step == 3 else None,
        )
        total += 0.5 * (step + 1)
        assert result.as_numpy("y").shape == (step + 1, 1)
        assert result.as_numpy("y")[-1, 0] == total
    with pytest.raises(InferenceServerException, match="no such session"):
        client.infer("sums", [x], sequence_id=41)
    y = client.infer("sums", [x], sequence_id="text", sequence_start=True, parameters={"sequence_number": 0})
    assert y.as_numpy("y")[-1, 0] == 2.5
    client.close()


def test_many_callers_share_steps(server):
    """Callers at the same time join into few compiled steps, and each gets the sums of its own session."""
    server.engine.shapes.clear()
    wrong, ready = [], threading.Barrier(12)

    def caller(key):
        with server.client() as client:
            client.get("/v2")
            ready.wait()
            totals = [sums(infer(client, f"many{key}", float(key), start=step == 0)) for step in range(10)]
        if totals != [[key * (step + 1.0)] for step in range(10)]:
            wrong.append(key)

    threads = [threading.Thread(target=caller, args=(key,)) for key in range(12)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []
    assert len(server.engine.shapes) < 120


def test_random_interleaving_equals_a_dict(http, server):
    """Sequences in any order, with starts that are missing or repeated and without ends, give the sums of a dict."""
    rng, expected = random.Random(6), {}
    with connect(f"ws://{server.address}/sessions/mix0/ws") as socket:
        for _ in range(250):
            key, value = f"mix{rng.randrange(4)}", float(rng.randrange(-9, 10))
            start, end, how = rng.random() < 0.2, rng.random() < 0.15, rng.randrange(3)
            if how == 0 and key == "mix0":
                socket.send(json.dumps({"x": [value], "create": start, "restart": start, "end": end}))
                answer = json.loads(socket.recv(10))
                status, y = answer.get("status", 200), answer.get("y")
            elif how == 1:
                sent = {"x": [value], "create": start, "restart": start, "end": end}
                answer = http.post(f"/sessions/{key}/push", json=sent)
                status, y = answer.status_code, answer.json().get("y")
            else:
                answer = infer(http, key, value, start=start, end=end)
                status, y = answer.status_code, answer.status_code == 200 and sums(answer)
            if not start and key not in expected:
                assert status == 404
                continue
            expected[key] = value if start else expected[key] + value
            assert (status, y) == (200, [expected[key]])
            if end:
                del expected[key]
    kept = {
        key: server.streamer.peek(key)["sum"][0, 0] for key in list(server.streamer.keys()) if key.startswith("mix")
    }
    assert kept == expected
