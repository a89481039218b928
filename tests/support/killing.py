"""Kills processes with SIGKILL at random moments, and holds the sessions of durable stores against exact sums.

    python tests/support/killing.py --kills 100 [--only lmdb redis redis-server http-lmdb http-redis]

A worker pushes 0, 1, 2, ... to three sessions at once, with sequence numbers, and tells of each push that has returned.
After each kill the store must have all of these pushes, at most the one that was under way besides, and none twice: a
record of number n has the sum of 0 to n. The next worker repeats the push that nobody told of.

| kind | who is killed |
|---|---|
| `lmdb`, `redis` | the process that pushes |
| `redis-server` | the server of Redis, with an append-only file; it starts again on its file |
| `http-lmdb`, `http-redis` | the server of sessions; its client repeats the push that was not answered |
"""

import argparse
import http.client
import json
import os
import random
import select
import signal
import socket
import tempfile
import threading
import time
import traceback
from functools import partial
from pathlib import Path

import numpy as np

from adding import Adding
from rnnstate import stores
from rnnstate.errors import PushError, StoreError
from rnnstate.streaming.streamer import Streamer
from servers import RedisServer

KEYS = ("north", "south", "west")
KINDS = ("lmdb", "redis", "redis-server", "http-lmdb", "http-redis")


def forked(work):
    """Run a function in a new process until it is killed, and return the id of the process."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    return child


def killed(child):
    """Kill a process, which must have run until now."""
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "the worker must run until it is killed"


def total(number, at):
    """Return the sum of session `at` after the push of a number."""
    return (at + 1) * number * (number + 1) // 2


def work(make, number, pipe):
    """Push numbers for ever, and write each number to the pipe once its push has returned."""
    streamer = None
    while True:
        try:
            streamer = streamer or Streamer(Adding(), make())
            x = {key: [float(number * (at + 1))] for at, key in enumerate(KEYS)}
            y = streamer.push(x, numbers=dict.fromkeys(KEYS, number))
        except (StoreError, PushError) as error:  # the server is away, or the lease has ended: push the number again
            if not all(isinstance(one, StoreError) for one in getattr(error, "errors", {}).values()):
                raise
            time.sleep(0.005)
            continue
        assert [y[key].ravel()[-1] for key in KEYS] == [total(number, at) for at in range(3)]
        os.write(pipe, number.to_bytes(8, "little"))
        number += 1


def told(pipe, last, wait=0.0):
    """Return the last number in the pipe. Wait so many seconds for one."""
    while select.select([pipe], [], [], wait)[0]:
        content = os.read(pipe, 8)
        if not content:
            break
        last, wait = int.from_bytes(content, "little"), 0.0
    return last


def look(make, acknowledged, keys=KEYS):
    """Return the number in the store after checking every session."""
    store = make()
    there = store.read_card() is not None
    records = store.read(keys).records if there else ()
    store.close()
    if acknowledged < 0 and not len(records):
        return -1
    assert there, f"lost: the whole store after {acknowledged}"
    assert records.keys == list(keys), f"lost: sessions {set(keys) - set(records.keys)} after {acknowledged}"
    (number,) = set(records.number.tolist())  # a push is there for all of its keys, or for none
    assert number in (acknowledged, acknowledged + 1), f"lost: {acknowledged} was acknowledged, the store has {number}"
    sums = records.leaves["sum"][:, 0].tolist()
    assert sums == [total(number, at) for at in range(len(keys))], f"number {number} with sums {sums}"
    assert records.count.tolist() == [number + 1] * len(keys)
    return number


def kill_workers(make, kills, rng):
    """Kill a worker many times. Return how many pushes were acknowledged, and how many kills came before the word of one."""
    acknowledged, between = -1, 0
    for at in range(kills):
        reading, writing = os.pipe()
        child = forked(partial(work, make, acknowledged + 1, writing))
        os.close(writing)
        if at % 4:  # every fourth kill may come while the worker starts
            acknowledged = told(reading, acknowledged, wait=30.0)
        time.sleep(rng.uniform(0.0, 0.1))
        killed(child)
        acknowledged = told(reading, acknowledged)
        os.close(reading)
        number = look(make, acknowledged)
        between += number > acknowledged
    return acknowledged + 1, between


def kill_redis(server, make, kills, rng):
    """Kill a Redis server many times while one worker pushes. Return the counts of `kill_workers`."""
    reading, writing = os.pipe()
    child, acknowledged, between = forked(partial(work, make, 0, writing)), -1, 0
    os.close(writing)
    for _ in range(kills):
        acknowledged = told(reading, acknowledged, wait=30.0)
        time.sleep(rng.uniform(0.0, 0.12))
        server.stop(signal.SIGKILL)
        os.kill(child, signal.SIGSTOP)
        acknowledged = told(reading, acknowledged)
        server.start()
        between += look(make, acknowledged) > acknowledged
        os.kill(child, signal.SIGCONT)
    killed(child)
    return told(reading, acknowledged) + 1, between


def serve(make, listening):
    """Serve sessions until the process is killed."""
    import uvicorn

    from rnnstate.serving.server import Host

    host = Host(Adding(), lambda on_evict: make(), "sums", "test", max_delay=0.0)
    uvicorn.Server(host.config()).run([listening])


def kill_servers(make, kills, rng):
    """Kill a server of sessions many times while a client pushes to it. Return the counts of `kill_workers`."""
    import rnnstate.serving.server  # noqa: F401  # once, before the processes part

    listening = socket.create_server(("127.0.0.1", 0))  # it stays open, so that clients wait for the next server
    number = between = 0
    for at in range(kills):
        child = forked(partial(serve, make, listening))
        timer = threading.Timer(rng.uniform(0.0, 0.2), killed, [child])
        if at % 4 == 0:  # every fourth kill may come while the server starts; the others begin to count at an answer
            timer.start()
        number = push_until(timer, listening.getsockname()[1], number)
        between += look(make, number - 1, KEYS[:1]) == number
    listening.close()
    return number, between


def push_until(timer, port, number):
    """Push one number after the other until the timer has killed the server. Return the number that was not answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    while not timer.finished.is_set():
        try:
            push_one(connection, number)
        except (OSError, http.client.HTTPException):
            connection.close()
            continue
        number += 1
        if timer.ident is None:
            timer.start()
    connection.close()
    return number


def push_one(connection, number):
    """Push a number, which must be answered with the sum."""
    while True:
        connection.request("POST", f"/sessions/{KEYS[0]}/push", json.dumps({"x": [number], "number": number}))
        answer = connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 503:  # the lease of the last server holds the session for a moment
            break
        time.sleep(0.02)
    assert answer.status == 200, f"lost or applied twice: number {number} is answered with {content}"
    assert np.ravel(content["y"])[-1] == total(number, 0), f"number {number} is answered with {content}"


def run(kind, kills, folder, rng):
    """Kill the processes of one kind, and return how many pushes were acknowledged, and how many kills came in between."""
    if kind.endswith("lmdb"):
        make = partial(stores.LmdbStore, folder / kind, capacity=2**24)
        return (kill_servers if kind.startswith("http") else kill_workers)(make, kills, rng)
    (folder / kind).mkdir()
    server = RedisServer(folder / kind)
    make = partial(stores.RedisStore, server.url, lease=0.2)
    try:
        if kind == "redis-server":
            return kill_redis(server, make, kills, rng)
        return (kill_servers if kind.startswith("http") else kill_workers)(make, kills, rng)
    finally:
        server.stop()


def main():
    """Kill, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for kind in given.only:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            pushes, between = run(kind, given.kills, Path(folder), random.Random(given.seed))
        print(
            f"{kind:13s} {given.kills} kills, {pushes:,} pushes acknowledged, none lost, none applied twice; "
            f"{between} kills came between a commit and its word ({time.monotonic() - begin:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
