"""The API keys of a node over HTTP: to make them, to look at them, to take them back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.periods import day_text, instant_of
from dsfn.functions.invalid import invalid
from dsfn.runtime.access import ApiKey, NewKey
from dsfn.runtime.access.keys import scopes_of
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.services import Services

_MEMBERS = ("tenant", "name", "scopes", "functions", "expires_at")


async def list_keys(request: Request) -> Response:
    """GET /keys: all of them, the oldest first, those that were revoked among them."""
    services: Services = request.app.state.services
    keys = services.access.keys.all()
    return JSONResponse({"keys": [_document(services, key) for key in keys]})


async def show_key(request: Request) -> Response:
    """GET /keys/{id}."""
    services: Services = request.app.state.services
    return JSONResponse(_document(services, services.access.keys.get(request.path_params["id"])))


async def create_key(request: Request) -> Response:
    """POST /keys {"name", "tenant", "scopes", "functions", "expires_at"}: 201 with the key itself
    as `key`, this one time."""
    services: Services = request.app.state.services
    new = _new_key(services, await read_object(request, services.settings.limits))
    key, token = services.access.keys.create(new)
    document = {**_document(services, key), "key": token}
    headers = {"Location": f"/keys/{key.id}", "Cache-Control": "no-store"}
    return JSONResponse(document, status_code=201, headers=headers)


async def revoke_key(request: Request) -> Response:
    """DELETE /keys/{id}: 200 with the key once nobody can use it any more."""
    services: Services = request.app.state.services
    key = services.access.keys.revoke(request.path_params["id"])
    return JSONResponse(_document(services, key))


def _new_key(services: Services, document: dict[str, Any]) -> NewKey:
    for name in document:
        if name not in _MEMBERS:
            raise invalid(name, "is not part of an API key")
    return NewKey(
        tenant=_text(document, "tenant", services.settings.tenant),
        name=_text(document, "name", ""),
        scopes=scopes_of(_texts(document, "scopes")),
        functions=_texts(document, "functions"),
        expires_at_us=_expiry(services, document.get("expires_at")),
    )


def _text(document: dict[str, Any], name: str, default: str) -> str:
    value = document.get(name, default)
    if not isinstance(value, str):
        raise invalid(name, "must be a text")
    return value


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    values = document.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(name, "must be a list of texts")
    return tuple(values)


def _expiry(services: Services, text: object) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise invalid("expires_at", "is a time like '2027-01-31T12:00:00Z'") from None
    if moment.tzinfo is None:
        raise invalid("expires_at", "needs an offset, such as the Z of '2027-01-31T12:00:00Z'")
    if (at_us := instant_of(moment)) <= services.clock.now_us():
        raise invalid("expires_at", "has passed already")
    return at_us


def _document(services: Services, key: ApiKey) -> dict[str, Any]:
    expires, revoked, day = key.expires_at_us, key.revoked_at_us, key.last_used_day
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": list(key.scopes),
        "functions": list(key.functions),
        "state": _state(key, services.clock.now_us()),
        "created_at": rfc3339(key.created_at_us),
        "expires_at": None if expires is None else rfc3339(expires),
        "revoked_at": None if revoked is None else rfc3339(revoked),
        "last_used": None if day is None else day_text(day),
    }


def _state(key: ApiKey, now_us: int) -> str:
    if key.revoked_at_us is not None:
        return "revoked"
    return "active" if key.is_valid(now_us) else "expired"


ROUTES = [
    Route("/keys", list_keys, methods=["GET"]),
    Route("/keys", create_key, methods=["POST"]),
    Route("/keys/{id}", show_key, methods=["GET"]),
    Route("/keys/{id}", revoke_key, methods=["DELETE"]),
]
