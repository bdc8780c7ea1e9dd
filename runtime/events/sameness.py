"""Whether two requests with one idempotency key are the same.

An event is named by its source and id, and says the same whichever way it came: what brokers and
tracing write on it on its way differs each time it is sent.
"""

from __future__ import annotations

import json

from dsfn.functions.interface import EVENT_CONTENT_TYPE
from dsfn.runtime.events.stored import request_digest

# Of Knative's own: knativearrivaltime, knativebrokerttl, knativehistory, knativeerrorcode, ...
# Source: https://github.com/knative/specs/blob/main/specs/eventing/data-plane.md
KNATIVE = "knative"
# Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md
_TRACING = ("traceparent", "tracestate")
_MARKS = tuple(f'"{name}'.encode() for name in (KNATIVE, *_TRACING))


def same_digest(content_type: str, body: bytes) -> bytes:
    """What two calls with one idempotency key must share: content type and body, of which an event
    is as `event_body` gives it; what it got on its way does not count."""
    if content_type == EVENT_CONTENT_TYPE and any(mark in body for mark in _MARKS):
        body = _as_it_was_sent(body)
    return request_digest(content_type, body)


def _as_it_was_sent(body: bytes) -> bytes:
    """The bytes that `event_body` gives of the event without what it got on its way."""
    document = json.loads(body)
    own = {name: value for name, value in document.items() if not _is_of_the_way(name)}
    return json.dumps(own, separators=(",", ":")).encode()


def _is_of_the_way(name: str) -> bool:
    return name.startswith(KNATIVE) or name in _TRACING
