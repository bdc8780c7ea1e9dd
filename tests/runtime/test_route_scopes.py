"""Every route of a node says which API keys may use it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dsfn.functions.errors import Forbidden
from dsfn.runtime.access import Identity, Scope
from dsfn.runtime.gateway.access import SCOPES, guarded
from dsfn.runtime.gateway.app import ROUTES

CALLS = ("POST", "/functions/{name}")
PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")


def test_every_route_has_its_scopes_and_no_scope_is_without_its_route() -> None:
    served = {
        (method, route.path) for route in ROUTES for method in (route.methods or set()) - {"HEAD"}
    }
    assert served | {CALLS} == set(SCOPES)


def test_a_route_without_scopes_is_not_served() -> None:
    async def new(request: Request) -> Response:
        return Response()

    with pytest.raises(KeyError):
        guarded([Route("/new", new, methods=["GET"])])


def test_nothing_but_health_and_a_path_with_a_secret_is_open_to_everybody() -> None:
    assert {path for (_, path), scopes in SCOPES.items() if scopes is None} == {
        "/health/liveness",
        "/health/readiness",
        "/functions/{name}/deadletters/{secret}",
    }


def test_the_page_on_access_has_the_same_table() -> None:
    rows = re.findall(r"^\| `([A-Z]+) ([^`]+)` \| ([^|]+) \|$", PAGE, re.M)
    documented = {(method, path): words.strip() for method, path, words in rows}
    assert documented == {route: _words(scopes) for route, scopes in SCOPES.items()}


def _words(scopes: frozenset[Scope] | None) -> str:
    if scopes is None:
        return "everybody"
    return ", ".join(f"`{scope}`" for scope in Scope if scope in scopes)


@pytest.mark.parametrize("scope", Scope)
def test_a_key_may_use_the_routes_of_its_scope_and_an_admin_all(scope: Scope) -> None:
    identity = Identity("acme", "k", frozenset({scope}))
    for scopes in filter(None, SCOPES.values()):
        if scope in scopes or scope is Scope.ADMIN:
            identity.require(scopes)
        else:
            with pytest.raises(Forbidden):
                identity.require(scopes)
