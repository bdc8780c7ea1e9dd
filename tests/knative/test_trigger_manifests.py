"""A function's `@on` as a Trigger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from knative_schemas import check_against_schema
from revisions import event_type, make_revision

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import FilterInterface
from dsfn.functions.options import Options
from dsfn.knative.manifests.trigger import DeadLetterSink, require_filter, trigger
from dsfn.knative.manifests.words import iso_duration

SINK = DeadLetterSink("dsfn-control", "/deadletters")


def trigger_of(*filters: FilterInterface, options: Options | None = None) -> Any:
    revision = make_revision(1)
    told = replace(revision, options=options or revision.options)
    return trigger(told, filters, "dsfn", "dsfn", SINK)


def test_an_event_that_fits_one_filter_or_several_calls_the_function_once() -> None:
    photos = FilterInterface({"type": "photo", "tenant": "a"}, {"source": "/eu"}, {"subject": ".j"})
    found = trigger_of(photos, event_type("scan"))
    check_against_schema(found)
    (filter_,) = found["spec"]["filters"]
    assert filter_["any"] == [
        {
            "all": [
                {"exact": {"type": "photo", "tenant": "a"}},
                {"prefix": {"source": "/eu"}},
                {"suffix": {"subject": ".j"}},
            ]
        },
        {"all": [{"exact": {"type": "scan"}}]},
    ]
    assert found["spec"]["subscriber"]["ref"]["name"] == "echo"


def test_deliveries_are_retried_as_the_function_says() -> None:
    options = Options(
        "echo", timeout_s=20.0, retries=5, backoff_policy="linear", backoff_delay_s=0.25
    )
    found = trigger_of(event_type("x"), options=options)
    check_against_schema(found)
    assert found["spec"]["delivery"] == {
        "retry": 5,
        "backoffPolicy": "linear",
        "backoffDelay": "PT0.25S",
        "timeout": "PT20S",
        "deadLetterSink": {
            "ref": {"apiVersion": "v1", "kind": "Service", "name": "dsfn-control"},
            "uri": "/deadletters",
        },
    }


def test_a_function_without_filters_has_no_trigger() -> None:
    assert trigger_of() is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "PT0S"), (0.05, "PT0.05S"), (86_400, "PT86400S"), (1e6, "PT1000000S")]
)
def test_durations_are_written_without_exponents(seconds: float, text: str) -> None:
    assert iso_duration(seconds) == text


def test_an_attribute_that_knative_takes_no_filter_on_is_refused() -> None:
    with pytest.raises(DefinitionError, match="takes no filter on the attribute '1st'"):
        require_filter(FilterInterface({}, {"1st": "x"}, {}), "echo")
