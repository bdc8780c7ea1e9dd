"""A query that is misspelt is refused on every route, and what is known is described."""

from __future__ import annotations

from dsfn.runtime.gateway.access import SCOPES
from dsfn.runtime.gateway.openapi import openapi_document
from dsfn.runtime.gateway.queries import PARAMETERS


def test_parameters_are_of_routes_that_there_are() -> None:
    assert set(PARAMETERS) <= set(SCOPES)


def test_the_description_of_a_route_names_the_parameters_that_it_takes() -> None:
    paths = openapi_document([], "1", "http://node")["paths"]
    described = {
        (method.upper(), path): [p["name"] for p in operation.get("parameters", []) if _in_query(p)]
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method != "parameters"
    }
    assert described.items() >= {("POST", "/auto"): ["output", "want", "optimise"]}.items()
    assert described == {route: list(PARAMETERS.get(route, ())) for route in described}


def _in_query(parameter: dict[str, str]) -> bool:
    return parameter.get("in") == "query"
