from __future__ import annotations

import json

import pytest

from dsfn.functions import errors
from dsfn.functions.errors import DsfnError, from_document
from dsfn.runtime.problems import problem_response, status_of


def tree(kind: type[DsfnError]) -> list[type[DsfnError]]:
    """The errors that cross processes; others may be imported by other tests."""
    children = (c for c in kind.__subclasses__() if c.__module__ == errors.__name__)
    return [kind, *(found for child in children for found in tree(child))]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("x"), 422),
        (errors.MalformedBody("x"), 400),
        (errors.NotFound("x"), 404),
        (errors.HandlerRaised("x"), 500),
        (errors.HandlerTimedOut("x"), 504),
        (errors.QueueFull("x"), 503),
        (errors.StorageFull("x"), 507),
        (errors.SetupError("x"), 422),
    ],
)
def test_each_kind_of_error_has_its_status(error: DsfnError, status: int) -> None:
    assert status_of(error) == status


def test_a_problem_names_the_field_and_the_invocation() -> None:
    response = problem_response(errors.InvalidInput("No.", field="photo"), "abc")
    document = json.loads(bytes(response.body))
    assert response.headers["content-type"] == "application/problem+json"
    assert document["type"].endswith("/invalid-input")
    assert (document["field"], document["instance"], document["status"]) == ("photo", "abc", 422)


def test_a_refusal_says_in_whole_seconds_when_to_come_back() -> None:
    response = problem_response(errors.QueueFull("Full.", retry_after_s=0.2))
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("kind", tree(DsfnError), ids=lambda kind: kind.__name__)
def test_every_error_crosses_a_process_boundary_unchanged(kind: type[DsfnError]) -> None:
    read_back = from_document(json.loads(json.dumps(kind("A word.", field="f").to_document())))
    assert (type(read_back), read_back.message, read_back.fields) == (
        kind,
        "A word.",
        {"field": "f"},
    )
