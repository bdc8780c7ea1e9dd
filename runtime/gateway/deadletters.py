"""What was given up, in one list: events that nobody took, and runs that failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import InvalidInput, from_document
from dsfn.functions.event import to_document
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.events.dead import DeadLetter, no_such_letter
from dsfn.runtime.gateway.access import identity_of, tenant_asked_for
from dsfn.runtime.gateway.run_documents import run_summary
from dsfn.runtime.gateway.runs import DEFAULT_RUNS_LISTED, MAX_RUNS_LISTED, number, retried
from dsfn.runtime.problems import problem_document
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import RunRecord

Document = dict[str, Any]


async def list_deadletters(request: Request) -> Response:
    """GET /deadletters?tenant=T&limit=N&before=CURSOR: those that came or started last first.

    `next` is the `before` of the next page, null when there is none.
    """
    services: Services = request.app.state.services
    limit = number(request, "limit", DEFAULT_RUNS_LISTED, 1, MAX_RUNS_LISTED)
    cursor = _Cursor.read(request.query_params.get("before"))
    tenant = tenant_asked_for(request)
    events = services.dead.list(limit + 1, tenant=tenant, **cursor.events)
    runs = services.runs.store.dead(limit + 1, cursor.run, tenant)
    found: list[DeadLetter | RunRecord] = [*events, *runs]
    found.sort(key=_time, reverse=True)
    shown = found[:limit]
    more = cursor.after(shown).text if len(found) > limit else None
    return JSONResponse({"deadletters": [_summary(each) for each in shown], "next": more})


async def show_deadletter(request: Request) -> Response:
    """GET /deadletters/{id}: why it was given up, with the event or the run that it is."""
    services: Services = request.app.state.services
    found = _find(request)
    if isinstance(found, RunRecord):
        more = {"event": None, "run": run_summary(found, services.rates.book.currency)}
    else:
        more = {"event": to_document(await services.dead.event(found.id)), "run": None}
    return JSONResponse({**_summary(found), **more})


async def replay(request: Request) -> Response:
    """POST /deadletters/{id}/replay: 202 with where to look for what becomes of it. An event is
    delivered again, a run goes on from the step that failed, as a new run."""
    services: Services = request.app.state.services
    found = _find(request)
    identity_of(request).require_callable(_name(found))
    if isinstance(found, RunRecord):
        location = f"/runs/{await retried(services, found.id)}"
    else:
        services.dead.replay(found.id)
        services.dispatcher.wake()
        location = f"/invocations/{found.id}"
    document = {"id": found.id, "kind": _kind(found), "location": location}
    return JSONResponse(document, status_code=202, headers={"Location": location})


@dataclass(frozen=True, slots=True)
class _Cursor:
    """How far both lists have been shown: the place of the last event, the id of the last run."""

    event: int | None = None
    run: str | None = None

    @classmethod
    def read(cls, text: str | None) -> _Cursor:
        event, dot, run = (text or ".").partition(".")
        if not dot or not ((event.isascii() and event.isdigit()) or not event) or len(event) > 18:
            raise InvalidInput("before is the `next` of the page before.", field="before")
        return cls(int(event) if event else None, run or None)

    @property
    def events(self) -> dict[str, int]:
        return {} if self.event is None else {"before": self.event}

    @property
    def text(self) -> str:
        return f"{self.event or ''}.{self.run or ''}"

    def after(self, shown: Iterable[DeadLetter | RunRecord]) -> _Cursor:
        event, run = self.event, self.run
        for each in shown:
            if isinstance(each, RunRecord):
                run = each.id
            else:
                event = each.seq
        return _Cursor(event, run)


def _find(request: Request) -> DeadLetter | RunRecord:
    """Raises `NotFound`, for one of another tenant, too."""
    services: Services = request.app.state.services
    found: DeadLetter | RunRecord
    id_ = request.path_params["id"]
    is_run = services.runs.store.is_dead(id_)
    found = services.runs.store.get(id_) if is_run else services.dead.get(id_)
    if not identity_of(request).sees(found.tenant):
        raise no_such_letter(id_)
    return found


def _summary(found: DeadLetter | RunRecord) -> Document:
    if isinstance(found, RunRecord):
        attempts, died_at_us = None, found.finished_at_us
    else:
        attempts, died_at_us = found.attempts, found.died_at_us
    assert found.error is not None and died_at_us is not None
    return {
        "id": found.id,
        "kind": _kind(found),
        "name": _name(found),
        "revision": found.revision,
        "attempts": attempts,
        "created_at": rfc3339(_time(found)),
        "died_at": rfc3339(died_at_us),
        "error": problem_document(from_document(found.error)),
    }


def _name(found: DeadLetter | RunRecord) -> str:
    return found.workflow if isinstance(found, RunRecord) else found.name


def _time(found: DeadLetter | RunRecord) -> int:
    return found.started_at_us if isinstance(found, RunRecord) else found.created_at_us


def _kind(found: DeadLetter | RunRecord) -> str:
    return "run" if isinstance(found, RunRecord) else "event"


ROUTES = [
    Route("/deadletters", list_deadletters, methods=["GET"]),
    Route("/deadletters/{id}", show_deadletter, methods=["GET"]),
    Route("/deadletters/{id}/replay", replay, methods=["POST"]),
]
