"""The routes of the Open Inference Protocol, version 2, with the sequences and binary tensors of NVIDIA's Triton."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from rnnstate import __version__
from rnnstate.messages import quoted
from rnnstate.serving.bodies import fields, parse, read_body
from rnnstate.serving.described import VERSION, Served
from rnnstate.serving.refusals import RefusedError
from rnnstate.serving.service import Service
from rnnstate.serving.tensors import of_session, read_tensors, write_tensors
from rnnstate.streaming.engine import ArraySpec

LENGTH = "Inference-Header-Content-Length"
_FIELDS = {"id": str, "parameters": dict, "inputs": list, "outputs": list}
_OUTPUT = {"name": str, "parameters": dict}


@dataclass(frozen=True)
class _Call:
    """An inference request that was read and checked."""

    id: str | None
    key: str | int
    x: dict[str, Any]
    options: dict[str, Any]
    outputs: list[tuple[int, bool]]  # the place of each output that was asked for, and whether it comes as bytes
    batched: bool


class InferenceRoutes:
    """The routes.

    Args:
        service: What they call.
        served: The model as clients see it.
    """

    def __init__(self, service: Service, served: Served) -> None:
        self._service, self._served = service, served

    def router(self) -> APIRouter:
        """Return the routes. A client may name the version of the model, of which there is one."""
        router = APIRouter(tags=["Open Inference Protocol"])
        router.add_api_route("/v2", self.server, summary="The server")
        router.add_api_route("/v2/health/live", self.live, summary="Whether the server runs")
        router.add_api_route("/v2/health/ready", self.ready, summary="Whether the server takes calls")
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            add = partial(router.add_api_route, include_in_schema=not path.endswith("{version}"))
            add(path, self.metadata, summary="The model and its tensors")
            add(f"{path}/config", self.config, summary="The configuration of the model")
            add(f"{path}/ready", self.model_ready, summary="Whether the model takes calls")
            add(f"{path}/infer", self.infer, methods=["POST"], summary="Advance a sequence by one step or a chunk")
        return router

    async def server(self) -> dict[str, Any]:
        return {"name": "rnnstate", "version": __version__, "extensions": ["binary_tensor_data", "sequence"]}

    async def live(self) -> dict[str, Any]:
        return {"live": True}

    async def ready(self) -> dict[str, Any]:
        if self._service.stopping:
            raise RefusedError(503, "The server stops.")
        return {"ready": True}

    async def metadata(self, request: Request) -> dict[str, Any]:
        self._known(request)
        return self._served.metadata()

    async def config(self, request: Request) -> dict[str, Any]:
        self._known(request)
        return self._served.config()

    async def model_ready(self, request: Request) -> dict[str, Any]:
        self._known(request)
        return await self.ready()

    async def infer(self, request: Request) -> Response:
        self._known(request)
        limits = self._service.limits
        body = await read_body(request, limits.body)
        call = _read(body, request.headers.get(LENGTH), self._served, limits.length)
        y = await self._service.push(request.state.tenant, call.key, call.x, **call.options)
        return _answer(call, self._served, y)

    def _known(self, request: Request) -> None:
        own = self._served.name, VERSION
        if (request.path_params["name"], request.path_params.get("version", VERSION)) != own:
            raise RefusedError(404, f"The model is `{own[0]}`, version {VERSION}. Received: another name or version.")


def _read(body: bytes, length: str | None, served: Served, steps: int) -> _Call:
    size = len(body)
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):
            raise RefusedError(
                400, f"`{LENGTH}` must be at most the {len(body):,} bytes of the body. Received: {length[:60]}."
            )
        size = int(length)
    given = parse(body[:size])
    fields(given, _FIELDS, ("inputs",))
    parameters = given.get("parameters") or {}
    key, options = _sequence(parameters)
    outputs = _outputs(given.get("outputs"), parameters, served)
    x, batched = _inputs(read_tensors(given["inputs"], body[size:]), served, steps)
    return _Call(given.get("id"), key, x, options, outputs, batched)


def _sequence(parameters: dict[str, Any]) -> tuple[str | int, dict[str, Any]]:
    """Return the key of the session, and the options of the push. Triton's other parameters change nothing here."""
    key = parameters.get("sequence_id", 0)
    kinds = {"sequence_start": bool, "sequence_end": bool, "sequence_number": int, "event_time": (int, float)}
    fields({name: parameters[name] for name in kinds if name in parameters}, kinds)
    if isinstance(key, bool) or not isinstance(key, (int, str)) or key in (0, ""):
        raise RefusedError(
            400, "A request must have the parameter `sequence_id`, a text or a number that is not 0. Received: none."
        )
    start = bool(parameters.get("sequence_start"))
    options = {"create": start, "restart": start, "end": bool(parameters.get("sequence_end"))}
    return key, options | {"number": parameters.get("sequence_number"), "time": parameters.get("event_time")}


def _outputs(given: list[Any] | None, parameters: dict[str, Any], served: Served) -> list[tuple[int, bool]]:
    otherwise, names = parameters.get("binary_data_output") is True, [spec.name for spec in served.outputs]
    if not given:
        return [(at, otherwise) for at in range(len(names))]
    found = []
    for output in given:
        if not isinstance(output, dict) or output.get("name") not in names:
            raise RefusedError(400, f"The outputs may be {quoted(names, 6)}. Received: {ascii(output)[:60]}.")
        fields(output, _OUTPUT)
        wanted = output.get("parameters") or {}
        if refused := sorted({"classification", "shared_memory_region"} & set(wanted)):
            raise RefusedError(400, f"An output may not have the parameter `{refused[0]}` on this server.")
        found.append((names.index(output["name"]), wanted.get("binary_data", otherwise) is True))
    return found


def _inputs(tensors: dict[str, Any], served: Served, steps: int) -> tuple[dict[str, Any], bool]:
    names = [spec.name for spec in served.inputs]
    if set(tensors) != set(names):
        raise RefusedError(400, f"The inputs must be {quoted(names, 6)}. Received: {ascii(sorted(tensors))[:200]}.")
    pairs = [of_session(spec, tensors[spec.name]) for spec in served.inputs]
    for spec, (array, _) in zip(served.inputs, pairs, strict=True):
        check_length(spec, array, steps)
    x = {name: array for name, (array, _) in zip(served.own, pairs, strict=True)}
    return x, any(batched for _, batched in pairs)


def check_length(spec: ArraySpec, array: Any, limit: int) -> None:
    """Raise `RefusedError` if an input has too many steps."""
    if spec.per_step and array.ndim > len(spec.shape) and len(array) > limit:
        raise RefusedError(413, f"A push may have {limit:,} steps. Received: {len(array):,}. Push it in parts.")


def _answer(call: _Call, served: Served, y: Any) -> Response:
    flat = served.flat(y)
    places = [at for at, _ in call.outputs]
    arrays = [np.asarray(flat[at])[None] if call.batched else np.asarray(flat[at]) for at in places]
    outputs, binary = write_tensors([served.outputs[at] for at in places], arrays, [kind for _, kind in call.outputs])
    answer = {"model_name": served.name, "model_version": VERSION, "outputs": outputs}
    head = json.dumps(answer | ({} if call.id is None else {"id": call.id}), allow_nan=False).encode()
    if not any(kind for _, kind in call.outputs):
        return Response(head, media_type="application/json")
    return Response(head + binary, media_type="application/octet-stream", headers={LENGTH: str(len(head))})
