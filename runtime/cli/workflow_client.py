"""A typed client of what a node tells of workflows, runs and dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from dsfn.runtime.cli.reply import Reply, reply_from
from dsfn.runtime.cli.transport import ADMIN_TIMEOUT_S, CALL_TIMEOUT_S, Transport, json_lines
from dsfn.runtime.cli.workflow_documents import (
    DeadLettersDocument,
    DeadLetterShowDocument,
    ReplayedDocument,
    RunDocument,
    RunLogDocument,
    RunsDocument,
    RunSummaryDocument,
    WorkflowDocument,
    WorkflowRevisionDocument,
    WorkflowSummaryDocument,
)


class WorkflowClient(Transport):
    """One node: its workflows, their runs, and what was given up."""

    def workflows(self) -> list[WorkflowSummaryDocument]:
        """Every deployed workflow."""
        found: list[WorkflowSummaryDocument] = self._json("GET", "/workflows")["workflows"]
        return found

    def workflow(self, name: str) -> WorkflowDocument:
        """One workflow in full."""
        document: WorkflowDocument = self._json("GET", _workflow(name))
        return document

    def workflow_history(self, name: str) -> list[WorkflowRevisionDocument]:
        """A workflow's revisions, newest first."""
        found: list[WorkflowRevisionDocument]
        found = self._json("GET", _workflow(name, "history"))["revisions"]
        return found

    def delete_workflow(self, name: str) -> None:
        """Removes a workflow; its runs stay."""
        self._json("DELETE", _workflow(name))

    def workflow_picture(self, name: str, format: str) -> str:
        """A workflow as `mermaid` or `svg`."""
        return self._text(_workflow(name, "graph"), {"format": format})

    @contextmanager
    def run(self, name: str, body: bytes, headers: Mapping[str, str]) -> Iterator[Reply]:
        """Runs a workflow; the result's chunks are read inside the `with`."""
        with self._open(
            "POST", _workflow(name), content=body, headers=headers, timeout_s=CALL_TIMEOUT_S
        ) as response:
            yield reply_from(response.headers, response.iter_bytes())

    def start_run(self, name: str, body: bytes, headers: Mapping[str, str]) -> RunSummaryDocument:
        """Starts a run and does not wait for it."""
        asked = {**headers, "Prefer": "respond-async"}
        document: RunSummaryDocument
        with self._open("POST", _workflow(name), content=body, headers=asked) as response:
            response.read()
            document = response.json()
        return document

    def runs(
        self, workflow: str | None, state: str | None, limit: int, before: str | None
    ) -> RunsDocument:
        """Runs, those that started last first."""
        chosen = {"workflow": workflow, "state": state, "limit": str(limit), "before": before}
        params = {name: value for name, value in chosen.items() if value is not None}
        document: RunsDocument = self._json("GET", "/runs", params=params)
        return document

    def run_document(self, run: str, after: int = 0, limit: int | None = None) -> RunDocument:
        """One run in full, its steps from `after` on."""
        params = {"after": str(after)} | ({} if limit is None else {"limit": str(limit)})
        document: RunDocument = self._json("GET", _run(run), params=params)
        return document

    def run_dag(self, run: str) -> dict[str, Any]:
        """The workflow that a run goes through, as a document."""
        dag: dict[str, Any] = self._json("GET", _run(run, "dag"))["dag"]
        return dag

    def run_picture(self, run: str, format: str) -> str:
        """A run as `mermaid` or `svg`."""
        return self._text(_run(run, "graph"), {"format": format})

    @contextmanager
    def run_output(self, run: str) -> Iterator[Reply]:
        """What a run gave; raises the error that it ended with."""
        with self._open("GET", _run(run, "output"), timeout_s=CALL_TIMEOUT_S) as response:
            yield reply_from(response.headers, response.iter_bytes())

    @contextmanager
    def run_events(self, run: str) -> Iterator[Iterator[bytes]]:
        """The server-sent events of a run, from the state that it is in to its end."""
        with self._open("GET", _run(run, "events"), timeout_s=CALL_TIMEOUT_S) as response:
            yield response.iter_bytes()

    def run_logs(self, run: str, follow: bool) -> Iterator[RunLogDocument]:
        """What the calls of a run printed, oldest first; with `follow` until it has ended."""
        params = {"follow": "true"} if follow else {}
        timeout_s = CALL_TIMEOUT_S if follow else ADMIN_TIMEOUT_S
        with self._open("GET", _run(run, "logs"), params=params, timeout_s=timeout_s) as response:
            yield from json_lines(response)

    def cancel_run(self, run: str) -> RunSummaryDocument:
        """Calls a run off."""
        document: RunSummaryDocument = self._json("POST", _run(run, "cancel"), body={})
        return document

    def retry_run(self, run: str) -> RunSummaryDocument:
        """Starts a run that goes on where another ended."""
        document: RunSummaryDocument = self._json("POST", _run(run, "retry"), body={})
        return document

    def dead_letters(self, limit: int, before: str | None) -> DeadLettersDocument:
        """What was given up, those that came last first."""
        params = {"limit": str(limit)} | ({} if before is None else {"before": before})
        document: DeadLettersDocument = self._json("GET", "/deadletters", params=params)
        return document

    def dead_letter(self, id: str) -> DeadLetterShowDocument:
        """One dead letter with the event or run that it is."""
        document: DeadLetterShowDocument = self._json("GET", _dead(id))
        return document

    def replay(self, id: str) -> ReplayedDocument:
        """Gives a dead letter another chance."""
        document: ReplayedDocument = self._json("POST", _dead(id, "replay"), body={})
        return document

    def _text(self, path: str, params: Mapping[str, str]) -> str:
        with self._open("GET", path, params=params) as response:
            response.read()
            return response.text


def _workflow(name: str, *more: str) -> str:
    return "/".join(("/workflows", quote(name, safe=""), *more))


def _run(run: str, *more: str) -> str:
    return "/".join(("/runs", quote(run, safe=""), *more))


def _dead(id: str, *more: str) -> str:
    return "/".join(("/deadletters", quote(id, safe=""), *more))
