"""What happens to runs, as events: stored with what they tell of, when somebody subscribed."""

from __future__ import annotations

import json
import logging
from typing import Any

from dsfn.functions.errors import DsfnError, InvalidInput
from dsfn.functions.event import DATAREF, Event
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.media import is_json, parse_content_type
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock, rfc3339
from dsfn.runtime.events.results import CAUSATION, CORRELATION, HOPS
from dsfn.runtime.events.router import Router
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.model import Payer
from dsfn.runtime.problems import problem_document
from dsfn.runtime.workflows.active import ActiveRun, Attempt
from dsfn.runtime.workflows.journal import StepResult
from dsfn.runtime.workflows.model import Blob, RunState, StepState, item_of
from dsfn.runtime.workflows.progress import Instance
from dsfn.runtime.workflows.tally import Tally

RUN_TYPE = "dev.dsfn.run."
STEP_TYPE = "dev.dsfn.step."
# A result that is kept in a row must fit whatever JSON makes of its characters: six for one.
MAX_EVENT_BYTES = 8 * INLINE_BYTES
_LOG = logging.getLogger("dsfn.workflows")
_STEP_WORDS = {
    StepState.SUCCEEDED: "completed",
    StepState.FAILED: "failed",
    StepState.WAITING: "retried",
}


@dataclass(frozen=True, slots=True)
class Announcer:
    """Makes the events of runs. All methods store inside the caller's transaction."""

    router: Router
    clock: Clock
    currency: str

    def started(self, run: ActiveRun) -> None:
        """A run was started."""
        if self.router.expects(f"{RUN_TYPE}started"):
            self._store(run, "started", f"{RUN_TYPE}started", None, self._of_run(run, "running"))

    def ended(
        self, run: ActiveRun, state: RunState, error: DsfnError | None, output: Blob | None
    ) -> None:
        """A run came to its end."""
        type_ = f"{RUN_TYPE}{state}"
        if not self.router.expects(type_):
            return
        data = self._of_run(run, state)
        if error is not None:
            data["error"] = problem_document(error)
        self._store(run, "ended", type_, None, data, output)

    def expects_attempts(self) -> bool:
        """Whether somebody wants to know when an attempt begins."""
        return self.router.expects(f"{STEP_TYPE}started")

    def began(self, run: ActiveRun, instance: Instance, attempt: Attempt, tally: Tally) -> None:
        """An attempt of a step begins."""
        data = self._of_step(run, instance, tally, StepState.RUNNING)
        data.update(function=attempt.function, revision=attempt.revision)
        key = _key(instance, attempt.call_id, "started")
        self._store(run, key, f"{STEP_TYPE}started", instance, data)

    def step(self, run: ActiveRun, instance: Instance, tally: Tally, result: StepResult) -> None:
        """Something came of a step."""
        word = _STEP_WORDS.get(result.state)
        if word is None or not self.router.expects(f"{STEP_TYPE}{word}"):
            return
        data = self._of_step(run, instance, tally, result.state)
        data.update(function=result.function, revision=result.revision, cached=result.cached)
        if result.error is not None:
            data["error"] = problem_document(result.error)
        # Not every attempt counts; each that is followed by another is told of.
        again = result.state is StepState.WAITING and tally.invocations
        key = _key(instance, tally.invocations[-1] if again else str(tally.attempts), word)
        self._store(run, key, f"{STEP_TYPE}{word}", instance, data, result.blob)

    def _of_run(self, run: ActiveRun, state: str) -> dict[str, Any]:
        cost = {"currency": self.currency, "amount_nano": run.cost_nano}
        return {
            "run": run.id,
            "workflow": run.workflow,
            "revision": run.revision,
            "state": state,
            "held_us": run.held_us,
            "cost": cost,
        }

    def _of_step(
        self, run: ActiveRun, instance: Instance, tally: Tally, state: str
    ) -> dict[str, Any]:
        step, path = instance
        cost = {"currency": self.currency, "amount_nano": tally.cost_nano}
        return {
            "run": run.id,
            "workflow": run.workflow,
            "step": step,
            "item": item_of(path),
            "state": state,
            "attempts": tally.attempts,
            "held_us": tally.held_us,
            "cost": cost,
        }

    def _store(
        self,
        run: ActiveRun,
        key: str,
        type_: str,
        instance: Instance | None,
        data: dict[str, Any],
        result: Blob | None = None,
    ) -> None:
        extensions: dict[str, str | int | bool] = {CORRELATION: run.correlation, HOPS: 1}
        if run.cause is not None:
            extensions.update({CAUSATION: run.cause.id, HOPS: run.cause.hops + 1})
        if key != "started":
            extensions[CAUSATION] = f"{run.id}.started"
        if run.traceparent is not None:
            extensions["traceparent"] = run.traceparent
        if result is not None:
            data["result"] = _shown(result)
            if result.ref is not None:
                extensions[DATAREF] = result.ref
        try:
            event = Event(
                id=f"{run.id}.{key}",
                source=f"/runs/{run.id}",
                type=type_,
                subject=run.workflow if instance is None else f"{run.workflow}/{instance[0]}",
                time=rfc3339(self.clock.now_us()),
                datacontenttype=JSON_CONTENT_TYPE,
                data=_fitting(data),
                extensions=extensions,
            )
            self.router.store_small(event, Payer(run.tenant, run.key_id))
        except InvalidInput as error:
            # A run goes on although nobody can be told.
            _LOG.warning("An event of run %s is not published: %s", run.id, error.message)


def _key(instance: Instance, attempt: str, word: str) -> str:
    step, path = instance
    return f"{step}.{'.'.join(map(str, path))}.{attempt}.{word}"


def _shown(result: Blob) -> Any:
    """A result in an event: JSON and text as they are, all else by what it is."""
    media, _ = parse_content_type(result.content_type)
    if result.inline is not None and is_json(media):
        return json.loads(result.inline)
    if result.inline is not None and media.startswith("text/"):
        return result.inline.decode(errors="replace")
    shown = {"content_type": result.content_type, "size_bytes": result.size_bytes}
    return shown if result.ref is None else {"$ref": result.ref, **shown}


def _fitting(data: dict[str, Any]) -> bytes:
    """The data as JSON, without what makes it too large to be stored beside a step."""
    for member in ("", "error", "result"):
        data.pop(member, None)
        text = json.dumps(data, default=str, separators=(",", ":")).encode()
        if len(text) <= MAX_EVENT_BYTES:
            break
    return text
