"""A diff that shows what people would see change, and nothing else."""

from __future__ import annotations

from typing import Any

from dsfn.knative.cluster.changes import Change, changes_between


def document(spec: Any, **metadata: Any) -> Any:
    return {
        "kind": "Role",
        "metadata": {"name": "a", **metadata},
        **({"spec": spec} if spec else {}),
    }


def test_the_api_servers_own_notes_are_no_change() -> None:
    live = document({"a": 1}, resourceVersion="1", generation=1, managedFields=[{}], uid="u")
    live["status"] = {"conditions": []}
    noted = {
        "serving.knative.dev/lastModifier": "eve",
        "deprecated.daemonset.template.generation": "2",
    }
    assert changes_between(live, document({"a": 1}, generation=2, annotations=noted)) == ()


def test_what_is_in_a_secret_is_not_shown() -> None:
    live, after = ({"kind": "Secret", "metadata": {}, "data": {"KEY": each}} for each in "ab")
    assert changes_between(live, after) == (Change("data.KEY", "(hidden)", "(hidden)"),)
    assert changes_between({**live, "data": {}}, after) == (Change("data.KEY", None, "(hidden)"),)


def test_a_change_is_named_by_its_path() -> None:
    before = document({"rules": [{"verbs": ["get", "list"]}], "gone": {"x": 1}})
    after = document({"rules": [{"verbs": ["get", "watch"]}, {"verbs": []}]})
    assert changes_between(before, after) == (
        Change("spec.rules.0.verbs", ["get", "list"], ["get", "watch"]),
        Change("spec.rules.1", None, {"verbs": []}),
        Change("spec.gone", {"x": 1}, None),
    )


def test_what_has_a_name_is_named_by_it_wherever_it_stands() -> None:
    def of(*env: tuple[str, str]) -> Any:
        variables = [{"name": name, "value": value} for name, value in env]
        return document({"containers": [{"name": "control", "env": variables}]})

    before = of(("PORT", "8700"), ("DSFN_STORE", "s3://a"))
    after = of(("POD_NAME", "x"), ("PORT", "8700"), ("DSFN_STORE", "s3://b"))
    assert changes_between(before, after) == (
        Change("spec.containers.control.env.DSFN_STORE.value", "s3://a", "s3://b"),
        Change("spec.containers.control.env.POD_NAME", None, {"name": "POD_NAME", "value": "x"}),
    )
