"""The arguments of `serve` and `sessions`."""

from pathlib import Path

from rnnstate.cli.shared_arguments import DEFAULT, Added, Commands, add_backend, add_json, add_quiet, new_command

ACTIONS = ("ls", "show", "export", "import", "fork", "drop", "expire")


def _add_serve(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "serve",
        "Serve a model over HTTP and WebSocket, with a state for each session. SIGTERM stops it after the last answer.\n"
        "A RUN is served in the units of its data.",
        "rnnstate serve power.run --store sessions --check",
    )
    add = parser.add_argument
    add("path", type=Path, metavar="RUN|MODEL.keras|MODEL.onnx", help="what to serve; an ONNX file needs no Keras")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help=f"any other address needs --tokens ({DEFAULT})")
    add("--port", type=int, default=8000, metavar="N", help=f"0 takes a free one, which the log names ({DEFAULT})")
    add("--store", default="memory", metavar="STORE", help=f"memory, a folder, or redis://... ({DEFAULT})")
    add("--tokens", type=Path, metavar="FILE", help="lines NAME TOKEN (default: the variable RNNSTATE_TOKENS, or none)")
    add("--name", metavar="NAME", help="name of the model in addresses (default: the name of the file)")
    add(
        "--on-other-model",
        choices=("refuse", "migrate", "restart"),
        default="refuse",
        help=f"what to do with the sessions of another model ({DEFAULT})",
    )
    add("--max-batch", type=int, default=64, metavar="N", help=f"rows of a compiled step, a power of two ({DEFAULT})")
    add("--max-steps", type=int, default=16, metavar="N", help=f"steps of a compiled step ({DEFAULT})")
    add("--max-delay", type=float, default=1.0, metavar="MS", help=f"how long a call waits for others ({DEFAULT})")
    add("--check", action="store_true", help="load, open and compile everything, say what would be served, then end")
    _add_limits(parser.add_argument_group("limits").add_argument)
    add_quiet(parser)
    add_backend(parser)
    return "serve", "serve a model over HTTP and WebSocket"


def _add_limits(add: Commands) -> None:
    add(
        "--capacity",
        type=int,
        metavar="BYTES",
        help="memory of --store memory; evicts the oldest sessions, and says so",
    )
    add("--idle", type=float, metavar="S", help="end sessions that nobody pushed for so many seconds, and say so")
    add(
        "--clock",
        choices=("wall", "event"),
        help="clock of --idle; event: the `time` of the pushes (default: the store's)",
    )
    add("--max-sessions", type=int, metavar="N", help="sessions of a token (default: no limit)")
    add("--rate", type=float, metavar="N", help="calls of a token per second (default: no limit)")
    add("--max-body", type=int, default=16 * 2**20, metavar="BYTES", help=f"body or message ({DEFAULT})")
    add("--max-length", type=int, default=100_000, metavar="N", help=f"steps of a push ({DEFAULT})")
    add("--max-queue", type=int, default=10_000, metavar="N", help=f"calls that wait or run ({DEFAULT})")
    add("--timeout", type=float, default=30.0, metavar="S", help=f"an answer takes at most so long ({DEFAULT})")


def _add_sessions(commands: Commands) -> Added:
    parser = new_command(
        commands,
        "sessions",
        "Look at the sessions of a store, and change them, without the model.\n\n"
        "ls STORE                    a table of all sessions\n"
        "show STORE KEY              one session with its leaves\n"
        "export STORE FILE [KEY ...] write a savepoint, of all sessions or some\n"
        "import STORE FILE [KEY ...] read a savepoint; sessions with the same keys are replaced\n"
        "fork STORE KEY NEW          begin a session with the state of another one\n"
        "drop STORE KEY [KEY ...]    end sessions with their checkpoints\n"
        "expire STORE --idle S       end the sessions that have been idle for so many seconds, by the clock of the store",
        "rnnstate sessions ls sessions",
    )
    add = parser.add_argument
    add("action", choices=ACTIONS, help="what to do")
    add("store", metavar="STORE", help="a folder, or redis://...")
    add("names", nargs="*", metavar="FILE|KEY", help="see above")
    add("--token", metavar="NAME", help="mean the sessions of this token of a server")
    add("--force", action="store_true", help="replace FILE")
    add("--idle", type=float, metavar="S", help="for expire")
    add(
        "--clock",
        choices=("wall", "event"),
        help="for import into a new store: the clock of its times (default: FILE's)",
    )
    add_json(parser)
    add_quiet(parser)
    return "sessions", "look at the sessions of a store, and change them"


SERVING = (_add_serve, _add_sessions)
