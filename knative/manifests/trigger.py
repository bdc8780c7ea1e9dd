"""A function's `@on` as a Trigger of a Broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import FilterInterface
from dsfn.functions.options import Options
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


@dataclass(frozen=True, slots=True)
class DeadLetterSink:
    """Where events go that could not be delivered: a path of a Service."""

    service: str
    path: str


def trigger(
    revision: Revision,
    namespace: str,
    broker: str,
    dead_letters: DeadLetterSink,
) -> Manifest | None:
    """Has a Broker's events that fit one of the function's filters call it; None where it has no
    filter. An event that fits several calls it once. Raises `DefinitionError` for a filter that
    Knative does not have."""
    filters = revision.interface.triggers
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
            "filters": [{"any": [_all_of(each, revision.function) for each in filters]}],
            "subscriber": {"ref": {"apiVersion": SERVING, "kind": "Service", "name": name}},
            "delivery": _delivery(revision.options, dead_letters),
        },
    }


def _all_of(filter_: FilterInterface, function: str) -> Manifest:
    """Source: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters"""
    conditions: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("exact", filter_.exact),
        ("prefix", filter_.prefix),
        ("suffix", filter_.suffix),
    )
    for _, wanted in conditions:
        for attribute in wanted:
            if not attribute[0].isalpha():
                raise DefinitionError(
                    f"@on of {function}: Knative takes no filter on the attribute {attribute!r};"
                    " there its name must begin with a letter.",
                    function=function,
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
