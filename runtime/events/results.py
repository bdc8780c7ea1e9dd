"""What a function's answer or failure says to the rest of the world: events."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

from dsfn.functions import event as events
from dsfn.functions.errors import DsfnError, InvalidInput
from dsfn.functions.event import Event
from dsfn.functions.interface import EVENT_CONTENT_TYPE, JSON_CONTENT_TYPE
from dsfn.runtime.model import EVENT_KEY
from dsfn.runtime.problems import PROBLEM_CONTENT_TYPE, problem_document

COMPLETED_TYPE = "dev.dsfn.function.completed"
FAILED_TYPE = "dev.dsfn.function.failed"
REFUSED_TYPE = "dev.dsfn.workflow.refused"
MAX_HOPS = 32
HOPS = "dsfnhops"
CORRELATION = "correlationid"
CAUSATION = "causationid"
_MAX_KEY_CHARS = 512


def completed_event(
    function: str, id: str, content_type: str, body: bytes, cause: Event, time: str | None = None
) -> Event:
    """The event that a function's result is: the one it returned, or one that carries it.

    Raises `InvalidInput` when the returned event has no place left for its extensions.
    """
    if content_type.partition(";")[0].strip().lower() == EVENT_CONTENT_TYPE:
        return follow(event_of_body(body), cause)
    event = Event(
        id=id,
        source=f"/functions/{function}",
        type=COMPLETED_TYPE,
        time=time,
        datacontenttype=content_type,
        data=body,
    )
    return follow(event, cause)


def failed_event(function: str, id: str, error: DsfnError, cause: Event, time: str) -> Event:
    """The event that says why `function` could not take `cause`, as a problem document."""
    return _complaint(f"/functions/{function}", FAILED_TYPE, id, error, cause, time)


def refused_event(workflow: str, id: str, error: DsfnError, cause: Event, time: str) -> Event:
    """The event that says why `cause` started no run of `workflow`, as a problem document."""
    return _complaint(f"/workflows/{workflow}", REFUSED_TYPE, id, error, cause, time)


def says_nothing(content_type: str, body: bytes) -> bool:
    """Whether a result is null, which is no event."""
    return body == b"null" and content_type.startswith(JSON_CONTENT_TYPE)


def hops_of(event: Event) -> int:
    """How many functions and runs an event and its causes went through."""
    hops = event.attribute(HOPS) or ""
    return int(hops) if hops.isascii() and hops.isdigit() and len(hops) < 10 else 0


def taken_for_loop(event: Event) -> DsfnError | None:
    """Why an event goes no further, if it has come through too many functions and runs."""
    hops = hops_of(event)
    if hops <= MAX_HOPS:
        return None
    return DsfnError(
        f"The event comes from a chain of more than {MAX_HOPS} functions and runs that"
        " call each other, which is taken for a loop.",
        hops=hops,
    )


def event_body(event: Event) -> bytes:
    """An event in structured mode; the same event gives the same bytes.

    Extensions are in their canonical text, as binary mode has them, whichever mode
    the event came in. Raises `InvalidInput` when its data cannot be written as JSON.
    """
    document = events.to_document(event)
    document.update((name, event.attribute(name)) for name in event.extensions)
    try:
        text = json.dumps(dict(sorted(document.items())), allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"'data' has no JSON form ({error}).", field="data") from error
    return text.encode()


def event_of_body(body: bytes) -> Event:
    """Reads back what `event_body` gave. Raises `InvalidInput`."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The event is not JSON ({error}).", field="event") from error
    return events.from_document(document)


def event_key(event: Event, function: str) -> str:
    """The idempotency key of an event's way to a function. Lengths make the joining unambiguous."""
    parts = (event.source, event.id, function)
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    if len(joined) <= _MAX_KEY_CHARS:
        return f"{EVENT_KEY}{joined}"
    return f"{EVENT_KEY}sha256:{sha256(joined.encode()).hexdigest()}"


def _complaint(source: str, type: str, id: str, error: DsfnError, cause: Event, time: str) -> Event:
    problem = json.dumps(problem_document(error, id), default=str)
    event = Event(
        id=id,
        source=source,
        type=type,
        time=time,
        datacontenttype=PROBLEM_CONTENT_TYPE,
        data=problem.encode(),
    )
    return follow(event, cause)


def follow(event: Event, cause: Event) -> Event:
    """Marks an event as a consequence; a correlation that its author set stays.

    Raises `InvalidInput` when it has no place left for its extensions.
    """
    correlation = cause.attribute(CORRELATION) or cause.id
    return replace(
        event,
        extensions={
            CORRELATION: correlation,
            **event.extensions,
            CAUSATION: cause.id,
            HOPS: hops_of(cause) + 1,
        },
    )
