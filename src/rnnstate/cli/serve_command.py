"""The command `serve`."""

import argparse
import os
import re
import socket
from pathlib import Path
from typing import Any

from rnnstate.cli.output import Output
from rnnstate.cli.stores import open_store
from rnnstate.errors import DataError
from rnnstate.streaming.engine import Engine
from rnnstate.streaming.opening import engine_of


def serve(options: argparse.Namespace, output: Output) -> None:
    """Serve a model until a signal, or with `--check` say what would be served.

    Raises:
        DataError: If FastAPI is missing, the address needs tokens, or an option has no use.
    """
    try:
        from rnnstate.serving.limits import Limits
        from rnnstate.serving.logs import event, start_log
        from rnnstate.serving.server import Host, is_loopback
    except ImportError as error:
        raise DataError(
            f'`rnnstate serve` needs {error.name}, which is not installed. Run `pip install "rnnstate[serve]"`.'
        ) from error
    tokens, loopback = _tokens(options.tokens), is_loopback(options.host)
    if not loopback and not tokens.known:
        raise DataError(
            f"A server on another address than 127.0.0.1 must have tokens. Received: --host {options.host} without "
            "--tokens. Write lines NAME TOKEN to a file."
        )
    listening = None if options.check else _bound(options.host, options.port)
    start_log(options.quiet)
    names = {"body": "max_body", "length": "max_length", "queue": "max_queue", "sessions": "max_sessions"}
    limits = Limits(
        **{name: getattr(options, option) for name, option in names.items()}, rate=options.rate, timeout=options.timeout
    )
    _check(options)
    engine, platform = _engine(options.path)
    name = re.sub(r"[^\w.-]", "_", options.name or options.path.absolute().stem)
    host = Host(
        engine,
        lambda on_evict: open_store(options.store, options.capacity, options.idle, on_evict, options.clock),
        name,
        platform,
        tokens,
        limits,
        loopback,
        on_other_model=options.on_other_model,
        max_batch=options.max_batch,
        max_steps=options.max_steps,
        max_delay=options.max_delay / 1e3,
    )
    shapes = host.streamer.warmup()
    if listening is None:
        output.result(_summary(host.served, options.store, shapes))
        host.streamer.store.close()
        return
    address, port = listening.getsockname()[:2]
    event("serving", model=name, platform=platform, address=address, port=port, store=options.store, shapes=shapes)
    host.run(listening)


def _check(options: argparse.Namespace) -> None:
    """Raise `DataError` if a number cannot be used, before a model is loaded."""
    for name in ("max_body", "max_length", "max_queue", "timeout", "max_sessions", "rate", "max_batch", "max_steps"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise DataError(f"`--{name.replace('_', '-')}` must be above 0. Received: {value:g}.")
    if not options.max_delay >= 0 or options.max_batch & (options.max_batch - 1):
        raise DataError(
            f"`--max-batch` must be a power of two, and `--max-delay` at least 0. Received: {options.max_batch} and "
            f"{options.max_delay:g}."
        )


def _tokens(path: Path | None) -> Any:
    from rnnstate.serving.tokens import VARIABLE, Tokens

    text = os.environ.get(VARIABLE, "") if path is None else path.read_text(encoding="utf-8")
    found = Tokens.read(text.splitlines())
    if path is not None and not found.known:
        raise DataError(f"`--tokens` must name a file with lines NAME TOKEN. Received: {path}, which has none.")
    return found


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that has the address, and does not listen yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise DataError(
            f"The address must be free, and the port at most 65,535. Received: {host}, port {port}: "
            f"{str(error).rstrip('.')}. Give another --port."
        ) from error
    return listening


def _engine(path: Path) -> tuple[Engine, str]:
    """Return the engine of a RUN or a file, and the name of its platform."""
    if path.suffix == ".onnx":
        if not path.is_file():
            raise DataError(f"There must be an ONNX file. Received: {path}, which does not exist.")
        try:
            return engine_of(path), "rnnstate_onnx"
        except (ImportError, ValueError) as error:
            raise DataError(str(error)) from error
    from rnnstate.forecasting.run_folder import load_model, read_run
    from rnnstate.forecasting.scaled_model import with_scaling
    from rnnstate.model.stateful_model import StatefulModel

    model = with_scaling(read_run(path)) if path.is_dir() else load_model(path)
    stateful = model if isinstance(model, StatefulModel) else StatefulModel(model)
    import keras

    return engine_of(stateful), f"rnnstate_{keras.config.backend()}"


def _summary(served: Any, store: str, shapes: int) -> list[str]:
    about = served.metadata()
    tensors = [
        f"{word}: {tensor['name']} {tensor['datatype']} {tensor['shape']}"
        for word in ("input", "output")
        for tensor in about[f"{word}s"]
    ]
    return [f"{about['name']} on {about['platform']}, store {store}, {shapes} shapes compiled", *tensors]
