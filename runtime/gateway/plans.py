"""POST /plans: which of the deployed functions lead from inputs to an output, and how best."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import InvalidInput
from dsfn.functions.invalid import invalid
from dsfn.functions.workflow.planning.asking import request_of
from dsfn.runtime.gateway.access import DEPLOY, identity_of
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.services import Services

_MEMBERS = ("inputs", "output", "want", "optimise", "save")


async def plan(request: Request) -> Response:
    """POST /plans {"inputs": [type], "output": type, "want", "optimise", "save": name}."""
    services: Services = request.app.state.services
    asked = _checked(await read_object(request, services.settings.limits))
    wanted = request_of(
        asked["inputs"], asked["output"], asked.get("want", ""), asked.get("optimise", "latency")
    )
    if "save" in asked:
        identity_of(request).require(DEPLOY)
    found = await services.planner.plan(wanted, asked.get("save"))
    saved = None
    if "save" in asked:
        revision = services.planner.save(found)
        saved = {"name": revision.workflow, "revision": revision.id}
    return JSONResponse({**found.to_document(), "saved": saved})


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    """The body, each member of its type. Null is as if it was not there."""
    asked = {name: value for name, value in document.items() if value is not None}
    for name in asked:
        if name not in _MEMBERS:
            raise invalid(name, f"is not something that a plan takes: {', '.join(_MEMBERS)}")
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(one, str) for one in inputs):
        raise InvalidInput("'inputs' must be a list of content types.", field="inputs")
    if "output" not in asked:
        raise invalid("output", "is missing")
    for name in _MEMBERS[1:]:
        if not isinstance(asked.get(name, ""), str):
            raise invalid(name, "must be a text")
    return asked


ROUTES = [Route("/plans", plan, methods=["POST"])]
