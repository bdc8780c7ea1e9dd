"""POST /auto: an input and the wanted output type; the node finds the functions and runs them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dsfn.functions.errors import InvalidInput
from dsfn.functions.interface import JSON_CONTENT_TYPE, MULTIPART_CONTENT_TYPE
from dsfn.functions.invalid import invalid
from dsfn.functions.jsonbody import parse_json
from dsfn.functions.limits import Limits
from dsfn.functions.media import OCTET_STREAM, is_json, parse_content_type, sniff
from dsfn.functions.multipart import Field, read_form
from dsfn.functions.negotiation import ranges_of
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import MAX_ITEMS
from dsfn.functions.workflow.planning.asking import request_of
from dsfn.functions.workflow.planning.plan import AUTO
from dsfn.functions.workflow.planning.types import kind_of
from dsfn.runtime.gateway.access import identity_of, require_own_blobs
from dsfn.runtime.gateway.calls import idempotency_key
from dsfn.runtime.gateway.request import headers_of
from dsfn.runtime.gateway.server_sent import EVENT_STREAM
from dsfn.runtime.gateway.workflows import Started, answer_run, started_run
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import WorkflowRevision


@dataclass(frozen=True, slots=True)
class _Came:
    """What came: `inputs` as a plan is asked for, and the body that a workflow of that plan
    takes."""

    inputs: tuple[str, ...]
    content_type: str
    body: bytes


async def auto(request: Request) -> Response:
    """POST /auto?output=TYPE&want=WORDS&optimise=cost|latency. The body is the input, a form for
    several. What is wanted may be said in `Accept`, too."""
    services: Services = request.app.state.services
    identity, headers = identity_of(request), headers_of(request.scope)
    identity.require_unlimited()
    body = await services.bodies.read(headers, request.receive)
    try:
        require_own_blobs(services, identity, body)
        came = _came(request.headers.get("content-type", ""), body)
        started, plan = await _start(services, request, came)
    finally:
        services.bodies.release(body)
    response = await answer_run(request, started)
    response.headers["dsfn-plan"] = " -> ".join(plan.dag.functions)
    return response


async def _start(
    services: Services, request: Request, came: _Came
) -> tuple[Started, WorkflowRevision]:
    payer = identity_of(request).payer
    given = request.headers.get("idempotency-key")
    key = None if given is None else idempotency_key(given)
    plan = await _plan(services, request, came, key)
    new = await services.starter.from_request(
        plan.workflow,
        came.content_type,
        came.body,
        tenant=payer.tenant,
        key_id=payer.key_id,
        caller=request.client.host if request.client else "",
        idempotency_key=key,
        traceparent=request.headers.get("traceparent"),
    )
    # The plan gives what was wanted; its exact type is that of the result.
    accept = EVENT_STREAM if EVENT_STREAM in request.headers.get("accept", "") else "*/*"
    return await started_run(services, new, accept, headers_of(request.scope)), plan


async def _plan(
    services: Services, request: Request, came: _Came, key: str | None
) -> WorkflowRevision:
    """The workflow that is run. A repeat runs that of its first time, whatever is best now."""
    if key is not None:
        run = services.runs.store.of_key(identity_of(request).tenant, f"{AUTO}-", key)
        if run is not None:
            return services.planner.keep(services.workflows.revision(run.revision))
    asked = request.query_params
    wanted = request_of(
        came.inputs,
        asked.get("output") or _accepted(request.headers.get("accept", "")),
        asked.get("want", ""),
        asked.get("optimise", "latency"),
    )
    return services.planner.save(await services.planner.plan(wanted))


def _accepted(accept: str) -> str:
    """The content type that a client wants most. Raises `InvalidInput` when it names none."""
    named = [(q, media) for media, q in ranges_of(accept) if media not in ("*/*", EVENT_STREAM)]
    best = max((q for q, _ in named), default=0.0)
    if best == 0.0:
        raise InvalidInput(
            "Say what is wanted: ?output=text/plain, or a content type in Accept.", field="output"
        )
    return next(media for q, media in named if q == best)


def _came(content_type: str, body: bytes) -> _Came:
    media, options = parse_content_type(content_type)
    if media == MULTIPART_CONTENT_TYPE:
        return _Came(_form_inputs(read_form(options, body, MAX_ITEMS)), content_type, body)
    if not body:
        raise InvalidInput("There is no input: the body is empty.", field="body")
    if media in ("", OCTET_STREAM):
        media = content_type = sniff(body)
    if not is_json(media) or kind_of(media) != "json":
        return _Came((media,), content_type, body)
    # To a workflow, JSON is an object of its inputs.
    parse_json(body, Limits(max_body_bytes=len(body)))
    return _Came((JSON_CONTENT_TYPE,), JSON_CONTENT_TYPE, b'{"json":%b}' % body)


def _form_inputs(fields: Sequence[Field]) -> tuple[str, ...]:
    """An input for each name in a form; a name that comes again and again is a list."""
    found: dict[str, list[str]] = {}
    for each in fields:
        found.setdefault(each.name, []).append(_media(each))
    for name, media in found.items():
        if len({kind_of(one) for one in media}) > 1:
            raise invalid(name, "is of several kinds; the items of a list are of one")
    return tuple(
        f"{name}={media[0]}{'[]' if len(media) > 1 else ''}" for name, media in found.items()
    )


def _media(each: Field) -> str:
    """The content type of a field: what it says, or shows; text when it is no file."""
    media, _ = parse_content_type(each.content_type)
    if media in ("", OCTET_STREAM):
        shown = sniff(each.data)
        return "text/plain" if shown == OCTET_STREAM and each.filename is None else shown
    return media


ROUTES = [Route("/auto", auto, methods=["POST"])]
