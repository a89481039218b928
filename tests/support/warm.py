"""Runs Python programs in processes that have imported Keras already.

A program that begins with `import keras` spends four to nine seconds of a processor on that import. Here one process imports
Keras, waits, and forks for each program. The fork has imported nothing else and computed nothing, so it does what a new
process does: it has its own memory, environment, streams and exit status, and SIGKILL ends it.

`executable()` returns the path of a command that takes the place of `sys.executable`, with any of these arguments:
`[-P] [-S] FILE ...`, `-m MODULE ...`, `-c CODE ...`. It passes its streams on to the fork, and signals too.

| process | its work |
|---|---|
| the command | a small Python: sends its arguments, environment and streams, and ends as the program ends |
| the server | has imported Keras; there is one for each set of settings that Keras, its backends and Python read |
| the keeper | forked by the server for each program: tells the command how it has ended, or kills it with the command |
| the program | forked by the keeper |
"""

import json
import os
import signal
import sys

# What Keras, its backends and Python read when they are imported.
READ = ("KERAS_", "JAX_", "TF_", "XLA_", "OMP_", "PYTHON")
SECONDS_TO_START = 300


def executable(folder, owner):
    """Write the command and return its path. The servers end when their folder or the owner has gone.

    Args:
        folder: Where the servers have their sockets and logs.
        owner: The process id of the test run.
    """
    path = os.path.join(folder, "python")
    here, real = os.path.dirname(os.path.abspath(__file__)), sys.executable
    with open(f"{path}-{os.getpid()}", "w") as file:
        file.write(f"#!{real} -IS\nimport sys\nsys.path.append({here!r})\nimport warm\n")
        file.write(f"warm.command({str(folder)!r}, {owner}, {real!r}, sys.argv[1:])\n")
    os.chmod(file.name, 0o700)
    os.replace(file.name, path)  # both test processes write the same
    return path


def command(folder, owner, python, arguments):
    """Run a program in a fork of a server, and end as it ends."""
    import socket

    flags = arguments[: _first(arguments)]
    program = {
        "arguments": arguments[len(flags) :],
        "flags": flags,
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
    }
    # The parent may pin this process to some cores just after it starts. The program gets the same cores.
    connection = _connect(folder, owner, python, [flag for flag in flags if flag != "-P"])
    program["cores"] = sorted(os.sched_getaffinity(0))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: connection.sendall(bytes([number])))
    content = json.dumps(program).encode()
    socket.send_fds(connection, [len(content).to_bytes(8, "little")], [0, 1, 2])
    connection.sendall(content)
    with connection.makefile() as answer:
        status = int(answer.readline() or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


def _first(arguments):
    """Return the place of the first argument that is no flag."""
    return next(at for at, argument in enumerate(arguments) if argument not in ("-P", "-S"))


def _connect(folder, owner, python, flags):
    """Return a connection to the server of these settings, which is started if nobody has."""
    import fcntl
    import hashlib
    import socket

    settings = {name: value for name, value in os.environ.items() if name.startswith(READ)}
    if settings.get("KERAS_BACKEND", "jax") != "jax":
        settings = {name: value for name, value in settings.items() if not name.startswith("JAX_")}
    if "-S" not in flags:
        settings.pop(
            "PYTHONPATH", None
        )  # Keras comes from the environment of Python, and each program gets its own path
    name = hashlib.sha256(json.dumps([flags, settings], sort_keys=True).encode()).hexdigest()[:16]
    path = os.path.join(folder, name)
    connection = socket.socket(socket.AF_UNIX)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            _start([python, *flags, os.path.abspath(__file__), path, str(owner)], path)
        connection.connect(path)
    return connection


def _start(command, path):
    """Start a server, and wait until it listens."""
    import subprocess
    import time

    with open(f"{path}.log", "wb") as log:
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True, "cwd": "/"}
        server = subprocess.Popen(command, **options)
    until = time.monotonic() + SECONDS_TO_START
    while not os.path.exists(path):
        if server.poll() is not None or time.monotonic() > until:
            server.kill()
            with open(f"{path}.log") as log:
                sys.exit(f"the server of warm processes must start:\n{log.read()}")
        time.sleep(0.02)


def serve(path, owner):
    """Import Keras, then fork a keeper for each connection. Return in the program."""
    import gc
    import socket

    gc.disable()  # the imports take a quarter longer with it
    _import_keras()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    gc.freeze()  # else the collector writes to the memory that the forks share
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{path}.new")
    listening.listen(16)
    listening.settimeout(1)
    os.rename(f"{path}.new", path)  # whoever sees it can connect
    while os.path.exists(path) and _runs(owner):
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        if not os.fork():
            listening.close()
            return _keep(connection)
        connection.close()
    if os.path.exists(path):
        os.unlink(path)
    os._exit(0)


def _import_keras():
    """Import Keras on the backend that is asked for, or on the one that rnnstate chooses, and what Keras imports later.

    Wherever TensorFlow is installed, Keras imports it for a seed and for the config of a model.
    """
    import contextlib

    if not os.environ.get("KERAS_BACKEND"):
        import rnnstate

        rnnstate.StatefulModel  # noqa: B018
    import keras  # noqa: F401

    with contextlib.suppress(ImportError):
        import tensorflow  # noqa: F401, TID251


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _keep(connection):
    """Fork the program, and tell its command how it has ended. Return in the program."""
    import select
    import socket

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.setblocking(True)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb", buffering=0) as reading:
        size, content = int.from_bytes(head, "little"), b""
        while len(content) < size:
            content += reading.read(size - len(content))
    child = os.fork()
    if not child:
        connection.close()
        return json.loads(content), streams
    ended = os.pidfd_open(child)
    while ended not in select.select([ended, connection], [], [])[0]:
        # The command passes signals on. If it is killed itself, so is the program.
        os.kill(child, int.from_bytes(connection.recv(1), "little") or signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(f"{status}\n".encode())
    os._exit(0)


def become(program, streams, base):
    """Make this process the one that the command would have been, up to its first line.

    Args:
        program: Arguments, flags, environment, folder and cores of the command.
        streams: Its standard streams.
        base: Where Python finds modules besides `PYTHONPATH` and the folder of the program.

    Returns:
        A function without arguments that runs the program.
    """
    import gc
    import random
    import runpy

    import numpy

    gc.enable()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["cwd"])
    os.sched_setaffinity(0, program["cores"])
    random.seed()
    numpy.random.seed()
    kind, *rest = program["arguments"]
    name, rest = (rest[0], rest[1:]) if kind in ("-m", "-c") else (kind, rest)
    own = [] if "-P" in program["flags"] else ["" if kind == "-c" else os.getcwd() if kind == "-m" else _folder(name)]
    sys.path[:] = [*own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *base]
    sys.argv[:] = [kind if kind in ("-m", "-c") else name, *rest]
    if kind == "-m":
        return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)
    if kind == "-c":
        return lambda: exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})
    return lambda: runpy.run_path(name, run_name="__main__")


def _folder(name):
    return os.path.dirname(os.path.realpath(name))


if __name__ == "__main__":
    given = len([part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part])
    found = sys.path[1 + given :]
    become(*serve(sys.argv[1], int(sys.argv[2])), found)()
