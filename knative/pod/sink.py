"""Where the events go that follow from events: to the sink that Knative bound the pod to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from dsfn.functions.errors import Unavailable
from dsfn.functions.event import Event
from dsfn.functions.interface import EVENT_CONTENT_TYPE
from dsfn.functions.values import dataclass
from dsfn.knative.pod.http import HttpClient, NoAnswer
from dsfn.runtime.events.results import event_body

THREADS = 8
RETRY_AFTER_S = 1.0
_HEADERS = {"Content-Type": EVENT_CONTENT_TYPE}


@dataclass(frozen=True, slots=True)
class EventSink:
    """Sends events, in structured mode, with the extensions of `overrides` put over their own."""

    client: HttpClient
    overrides: Mapping[str, str]

    async def send(self, event: Event) -> None:
        """Returns when the sink has taken the event. Raises `Unavailable`: whoever sent the event
        that this one follows from sends it again, and gets the same once more."""
        own = replace(event, extensions={**event.extensions, **self.overrides})
        parts = urlsplit(self.client.url)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            reply = await self.client.ask("POST", path, _HEADERS, event_body(own))
        except NoAnswer as error:
            raise self._unavailable(str(error)) from error
        if not reply.is_success:
            raise self._unavailable(f"it answers {reply.status}")

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable(
            f"The event sink {self.client.url} did not take the event that follows: {reason}.",
            retry_after_s=RETRY_AFTER_S,
        )
