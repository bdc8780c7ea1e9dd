"""Uploads: bundles to deploy, and blobs that calls refer to."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import DsfnError, InvalidInput, UnsupportedMediaType
from dsfn.runtime.blobs import DEFAULT_CONTENT_TYPE, digest_of
from dsfn.runtime.blobs.files import no_blob
from dsfn.runtime.canaries.canary import Terms
from dsfn.runtime.deploy.bundle import BUNDLE_CONTENT_TYPE, MAX_TAR_BYTES
from dsfn.runtime.deploy.pipeline import Deployed, DeployedWorkflow, Progress
from dsfn.runtime.gateway.access import identity_of
from dsfn.runtime.gateway.admin_documents import function_url, snapshot_document, workflow_url
from dsfn.runtime.gateway.ndjson import NdjsonResponse, ndjson_line
from dsfn.runtime.gateway.queries import CANARY
from dsfn.runtime.gateway.request import BodyReader, headers_of
from dsfn.runtime.problems import problem_document
from dsfn.runtime.services import Services

UPLOAD_TIMEOUT_S = 600.0


async def deploy(request: Request) -> Response:
    """POST /deployments?entry=FILE: deploys a bundle, a line of JSON for each step.

    With `canary=PERCENT`, and `promote_after_s`, `max_error_percent` and `max_p99_us` if they are
    not to be what they are by default, new revisions are on trial.
    """
    services: Services = request.app.state.services
    entry = request.query_params.get("entry")
    if not entry:
        raise InvalidInput(
            "Name the file to deploy, as in /deployments?entry=app.py.",
            field="entry",
        )
    content_type = request.headers.get("content-type", "")
    if content_type != BUNDLE_CONTENT_TYPE:
        raise UnsupportedMediaType(
            f"A bundle has the content type {BUNDLE_CONTENT_TYPE}.",
            content_type=content_type,
            expected=[BUNDLE_CONTENT_TYPE],
        )
    terms = _terms(request)
    limits = replace(
        services.settings.limits, max_body_bytes=MAX_TAR_BYTES, body_timeout_s=UPLOAD_TIMEOUT_S
    )
    data = await BodyReader(limits).read(headers_of(request.scope), request.receive)
    return NdjsonResponse(_steps(request, data, entry, terms))


async def put_blob(request: Request) -> Response:
    """POST /blobs: keeps the body and answers with its reference."""
    services: Services = request.app.state.services
    tenant = identity_of(request).tenant
    data = await services.bodies.read(headers_of(request.scope), request.receive)
    content_type = request.headers.get("content-type", DEFAULT_CONTENT_TYPE)
    try:
        ref = await services.blobs.save(data, content_type)
        services.owners.add(tenant, digest_of(ref))
    finally:
        services.bodies.release(data)
    return JSONResponse({"ref": ref, "bytes": len(data)}, status_code=201)


async def get_blob(request: Request) -> Response:
    """GET /blobs/{digest}: the bytes with the content type they came with."""
    services: Services = request.app.state.services
    identity, digest = identity_of(request), request.path_params["digest"]
    if not identity.is_admin and not services.owners.owns(identity.tenant, digest):
        raise no_blob(digest)
    data, content_type = await services.blobs.load(digest)
    # Whoever put a blob chose its type; a browser must not make a page of it by guessing.
    headers = {"Content-Type": content_type, "X-Content-Type-Options": "nosniff"}
    return Response(data, headers=headers)


def _terms(request: Request) -> Terms | None:
    """The terms of a canary, None where none is wanted. Raises `InvalidInput`."""
    given: dict[str, float] = {}
    for name in CANARY:
        if (text := request.query_params.get(name)) is not None:
            given[name] = _number(name, text)
    if not given:
        return None
    if "canary" not in given:
        raise InvalidInput(f"{next(iter(given))} is of a canary: say canary=PERCENT, too.")
    percent, p99_us = given.pop("canary"), given.pop("max_p99_us", None)
    if percent != int(percent):
        raise InvalidInput("A canary gets whole percents of the calls.", field="canary")
    return Terms(int(percent), max_p99_us=None if p99_us is None else int(p99_us), **given)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"{name} is a number, not {text!r}.", field=name)
    return number


async def _steps(
    request: Request, data: bytes, entry: str, terms: Terms | None
) -> AsyncGenerator[bytes, None]:
    services: Services = request.app.state.services
    async with aclosing(services.pipeline.deploy(data, entry, terms)) as steps:
        try:
            async for step in steps:
                if step.stage == "done":
                    await services.serving.reconcile()
                yield ndjson_line(_step_document(request, step))
        except DsfnError as error:
            yield ndjson_line({"stage": "failed", "problem": problem_document(error)})


def _step_document(request: Request, step: Progress) -> dict[str, Any]:
    if step.stage == "done":
        functions = [_deployed(request, each) for each in step.result]
        workflows = [_deployed_workflow(request, each) for each in step.workflows]
        return {"stage": "done", "result": [*functions, *workflows]}
    shown = {"stage": step.stage, "function": step.function, "message": step.message}
    return {**shown, "warning": True} if step.warns else shown


def _deployed(request: Request, deployed: Deployed) -> dict[str, Any]:
    revision = deployed.revision
    return {
        "kind": "function",
        "name": revision.function,
        "revision": revision.id,
        "url": function_url(request, revision.function),
        "snapshot": snapshot_document(revision),
        "snapshot_reason": revision.snapshot_reason,
        "created": deployed.created,
    }


def _deployed_workflow(request: Request, deployed: DeployedWorkflow) -> dict[str, Any]:
    revision = deployed.revision
    return {
        "kind": "workflow",
        "name": revision.workflow,
        "revision": revision.id,
        "url": workflow_url(request, revision.workflow),
        "snapshot": None,
        "snapshot_reason": None,
        "created": deployed.created,
    }


ROUTES = [
    Route("/deployments", deploy, methods=["POST"]),
    Route("/blobs", put_blob, methods=["POST"]),
    Route("/blobs/{digest}", get_blob, methods=["GET"]),
]
