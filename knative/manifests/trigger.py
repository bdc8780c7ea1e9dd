"""A function's `@on` as a Trigger of a Broker."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import FilterInterface
from dsfn.functions.options import Options
from dsfn.functions.values import dataclass
from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.words import (
    FUNCTION_LABEL,
    Manifest,
    iso_duration,
    labels,
    service_name,
)
from dsfn.runtime.model import Revision

EVENTING = "eventing.knative.dev/v1"
# No event fits it. Knative takes a Trigger without filters as one that every event fits.
NOTHING = FilterInterface({"type": "dev.dsfn.nothing"}, {}, {})


@dataclass(frozen=True, slots=True)
class DeadLetterSink:
    """Where events go that could not be delivered: a path of a Service."""

    service: str
    path: str


def trigger(
    revision: Revision,
    filters: Sequence[FilterInterface],
    namespace: str,
    broker: str,
    dead_letters: DeadLetterSink,
) -> Manifest | None:
    """Has a Broker's events that fit one of these filters call the function; None without any. An
    event that fits several calls it once."""
    if not filters:
        return None
    name = service_name(revision.function)
    return {
        "apiVersion": EVENTING,
        "kind": "Trigger",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**labels(FUNCTION), FUNCTION_LABEL: revision.function},
        },
        "spec": {
            "broker": broker,
            "filters": [{"any": [_all_of(each) for each in filters]}],
            "subscriber": {"ref": {"apiVersion": SERVING, "kind": "Service", "name": name}},
            "delivery": _delivery(revision.options, dead_letters),
        },
    }


def require_filter(filter_: FilterInterface, function: str) -> None:
    """Raises `DefinitionError` for a filter that Knative does not have."""
    for attribute in (*filter_.exact, *filter_.prefix, *filter_.suffix):
        if not attribute[0].isalpha():
            raise DefinitionError(
                f"Events for {function}: Knative takes no filter on the attribute {attribute!r};"
                " there its name must begin with a letter.",
                function=function,
            )


def _all_of(filter_: FilterInterface) -> Manifest:
    """Source: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters"""
    conditions = (
        ("exact", filter_.exact),
        ("prefix", filter_.prefix),
        ("suffix", filter_.suffix),
    )
    return {"all": [{dialect: dict(wanted)} for dialect, wanted in conditions if wanted]}


def _delivery(options: Options, dead_letters: DeadLetterSink) -> Manifest:
    service = {"apiVersion": "v1", "kind": "Service", "name": dead_letters.service}
    return {
        "retry": options.retries,
        "backoffPolicy": options.backoff_policy,
        "backoffDelay": iso_duration(options.backoff_delay_s),
        "timeout": iso_duration(options.timeout_s),
        "deadLetterSink": {"ref": service, "uri": dead_letters.path},
    }
