"""What an API server refuses, as one sentence and one kind of error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dsfn.functions.errors import (
    ClusterRefused,
    ClusterUnreachable,
    DsfnError,
    MissingRights,
    NotFound,
)
from dsfn.knative.cluster.refusals import refusal_of

MAY_NOT = (
    'services.serving.knative.dev "echo" is forbidden: User "eve" cannot patch resource "services"'
    ' in API group "serving.knative.dev" in the namespace "dsfn"'
)
QUOTA = 'pods "a" is forbidden: exceeded quota: dsfn'


def refused(status: int, message: str, **details: Any) -> DsfnError:
    body = json.dumps({"kind": "Status", "message": message, "details": details})
    return refusal_of(status, body.encode(), "context 'c'")


def test_missing_rights_say_who_may_not_do_what_where() -> None:
    error = refused(403, MAY_NOT)
    assert type(error) is MissingRights
    assert error.message == (
        "eve may not patch services.serving.knative.dev in the namespace dsfn: whoever administers"
        " the cluster can grant it with a Role."
    )
    assert error.fields["verb"] == "patch"


@pytest.mark.parametrize(
    ("refused_for", "resource"),
    [
        (
            'cannot patch resource "namespaces" in API group "" in the namespace "dsfn"',
            "namespaces",
        ),
        ('cannot list resource "nodes" in API group "" at the cluster scope', "nodes"),
    ],
)
def test_missing_rights_on_what_is_in_no_namespace_are_the_clusters(
    refused_for: str, resource: str
) -> None:
    error = refused(403, f'{resource} "dsfn" is forbidden: User "eve" {refused_for}')
    assert type(error) is MissingRights
    assert error.message.endswith(
        f"{resource} in the cluster: whoever administers the cluster can grant it with a"
        " ClusterRole."
    )
    assert error.fields["namespace"] == ""


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Unauthorized", MissingRights),
        (403, QUOTA, ClusterRefused),
        (404, 'namespaces "x" not found', NotFound),
        (422, "spec.a: Required\nvalue.", ClusterRefused),
        (500, "failed calling webhook", ClusterRefused),
        (503, "the server is currently unable", ClusterUnreachable),
    ],
)
def test_every_refusal_is_one_line_that_says_why(
    status: int, message: str, kind: type[DsfnError]
) -> None:
    error = refused(status, message, name="a", kind="pods")
    assert type(error) is kind
    assert "\n" not in error.message and error.message.endswith(".")
    assert status == 401 or " ".join(message.split()).rstrip(".") in error.message


def test_a_field_that_knative_does_not_allow_is_told_with_what_allows_it() -> None:
    denied = 'admission webhook "w.knative.dev" denied the request: validation failed: must not set'
    error = refused(400, f"{denied} the field(s): spec.template.spec.nodeSelector")
    assert error.fields["reason"] == (
        "validation failed: must not set the field(s): spec.template.spec.nodeSelector; `dsfn"
        " platform upgrade --enable-features` has Knative allow them"
    )


@pytest.mark.parametrize("body", [None, b"", b"<html>", b"[]"])
def test_an_answer_that_is_no_status_is_told_by_its_number(body: bytes | None) -> None:
    assert "status 418" in refusal_of(418, body, "context 'c'").message
