"""What a node and a cluster must come to alike: calls and their rows, and what commands show."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
from cli_runs import Dsfn
from deadlines import eventually

from dsfn.billing.usage import Usage

BOTH = Path(__file__).parents[1] / "knative" / "apps" / "both.py"
JSON = {"content-type": "application/json"}
TEXT = {"content-type": "text/plain"}
STRUCTURED = "application/cloudevents+json"
# The names of the contexts.
TARGETS = ("node", "knative")
# What is of this call alone: its id, when it ran, how long it took.
_OWN = {"date", "dsfn-invocation-id", "server-timing", "content-length"}
_MEASURED = {"dsfn-busy-us", "dsfn-held-us", "dsfn-cost-nano", "dsfn-gpu-us"}
_OF_THE_CALL = (
    "invocation_id",
    "started_at_us",
    "busy_us",
    "held_us",
    "restore_us",
    "lease",
    "run",
)

# Of the functions of BOTH, in this order.
CALLS: list[tuple[str, dict[str, str], bytes]] = [
    ("shout", TEXT, b"hello"),
    ("shout", {**JSON, "idempotency-key": "once"}, b'{"text": "again"}'),
    ("shout", {**JSON, "idempotency-key": "once"}, b'{"text": "again"}'),
    ("shout", {**JSON, "idempotency-key": "once"}, b'{"text": "other"}'),
    ("measure", JSON, b'{"text": "four"}'),
    ("measure", JSON, b'{"text": 4}'),
    ("measure", JSON, b"{"),
    ("measure", {"content-type": "image/png"}, b"x"),
    ("measure", JSON, b'{"text": "x", "how": "badly"}'),
    ("measure", {**JSON, "idempotency-key": "bad"}, b'{"text": "x", "how": "badly"}'),
    ("measure", {**JSON, "idempotency-key": "bad"}, b'{"text": "x", "how": "badly"}'),
    ("measure", JSON, b'{"text": "x", "how": "exit"}'),
    ("measure", JSON, b'{"text": "four"}'),
    ("count-up", JSON, b'{"to": 4}'),
    ("count-up", JSON, b'{"to": 4, "until": 0}'),
    ("count-up", JSON, b'{"to": 4, "until": 2}'),
    ("nobody", JSON, b"{}"),
]


class Target(Protocol):
    """Where functions are deployed, as its owner sees it."""

    @property
    def http(self) -> httpx.Client: ...

    def rows(self, function: str = "") -> list[Usage]: ...

    def rows_of(self, invocation: str) -> list[Usage]: ...


def seen(answer: httpx.Response) -> tuple[int, Mapping[str, str], object]:
    """An answer without what is of this call alone."""
    headers = {
        name: "" if name in _MEASURED else value
        for name, value in answer.headers.items()
        if name not in _OWN
    }
    if answer.headers["content-type"] == "application/problem+json":
        document = answer.json()
        del document["instance"]
        for name in ("charge", "phases", "pid"):
            if name in document:
                document[name] = bool(document[name])
        body: object = document
    elif answer.headers["content-type"].startswith("text/event-stream"):
        body = re.sub(r'(_(us|nano)": |dur=)[\d.]+', "", answer.text)
    else:
        body = answer.content
    return answer.status_code, headers, body


def billed(row: Usage) -> dict[str, Any]:
    """A row without what is of this call alone."""
    return {name: getattr(row, name) for name in Usage.__slots__ if name not in _OF_THE_CALL}


def without_revisions(found: Any) -> str:
    """What is found, as text that says of no revision which, and of no caller from where. A
    revision is of an environment, too: another Python, or another library, makes it another one.
    Callers come from here or, on a cluster, from the replica that has passed their call on."""
    text = re.sub(r"\b([a-z][a-z-]*)-[0-9a-f]{10}\b", r"\1-REVISION", repr(found))
    return re.sub(r"'caller': '[0-9.]+'", "'caller': 'ADDRESS'", text)


def check_calls(node: Target, cluster: Target) -> None:
    """CALLS are answered alike, and have the same rows."""
    for function, headers, body in CALLS:
        there, here = (
            each.http.post(f"/functions/{function}", headers=headers, content=body)
            for each in (node, cluster)
        )
        assert without_revisions(seen(here)) == without_revisions(seen(there))
        rows = node.rows_of(there.headers["dsfn-invocation-id"])
        found = rows_once_there(cluster, here.headers["dsfn-invocation-id"], len(rows))
        alike = [without_revisions([billed(row) for row in each]) for each in (found, rows)]
        assert alike[0] == alike[1], "\n".join((function, str(headers), *alike))


def rows_once_there(target: Target, invocation: str, count: int) -> list[Usage]:
    """The rows of an invocation once there are as many: those of pods come by way of their node's
    agent."""
    eventually(lambda: len(target.rows_of(invocation)) >= count, "the rows of a call")
    return target.rows_of(invocation)


def shape(found: Any) -> Any:
    """A document's keys and the types of its values."""
    if isinstance(found, dict):
        return {name: shape(value) for name, value in found.items()}
    if isinstance(found, list):
        return [shape(each) for each in found[:1]]
    return type(found).__name__


@dataclass(frozen=True, slots=True)
class Use:
    """A call of a function and a run of a workflow that calls it, as the command line has them."""

    function: str
    data: str
    result: Any
    workflow: str
    given: str


def check_use(cli: Dsfn, use: Use) -> None:
    """What is called and run is told alike of both targets."""
    documents = []
    for name in TARGETS:
        to = ("--target", name)
        assert cli("invoke", use.function, "--data", use.data, *to).json() == use.result
        ran = cli("workflow", "run", use.workflow, "--data", use.given, "--json", *to).json()
        runs = cli("runs", "list", "--workflow", use.workflow, "--json", *to).json()
        described = cli("describe", use.function, "--json", *to).json()
        assert described["traffic"] == {described["revision"]: 100}
        bill = cli("bill", "report", "--json", "--by", "function", *to).json()
        assert use.function in json.dumps(bill)
        described.pop("replicas")  # a node shows them at once, a cluster when it has looked
        described.pop("traffic")  # whose names are those of revisions
        documents.append((ran, runs, described, bill))
    for here, there in zip(*documents, strict=True):
        assert shape(here) == shape(there), (here, there)


def printed(cli: Dsfn, function: str, target: str) -> list[str]:
    """The lines that a function has printed."""
    return [line["text"] for line in cli("logs", function, "--json", "--target", target).json()]
