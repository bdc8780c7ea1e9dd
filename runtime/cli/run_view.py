"""A run on the screen: drawn once, drawn again whenever something changes, or told line by line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from dsfn.functions.values import dataclass
from dsfn.runtime.cli.output import item_words, local_time, on_terminal, print_fields, say, style_of
from dsfn.runtime.cli.result import named_events
from dsfn.runtime.cli.workflow_client import WorkflowClient
from dsfn.runtime.cli.workflow_documents import CostDocument, RunDocument, RunStepDocument
from dsfn.runtime.workflows.amounts import duration, money

if TYPE_CHECKING:
    from rich.text import Text

    from dsfn.functions.workflow.dag import Dag
    from dsfn.runtime.workflows.drawing import Line

REDRAW_S = 0.25


def run_fields(run: RunDocument) -> list[tuple[str, str]]:
    """What there is to say of the whole run, by name."""
    error = run["error"]
    rows = [
        ("run", run["id"]),
        ("workflow", f"{run['workflow']} ({run['revision']})"),
        ("state", run["state"]),
        ("started", local_time(run["started_at"])),
        ("time", _wall(run)),
        ("cost", cost_words(run["cost"])),
        ("retry of", run["retry_of"] or ""),
        ("error", "" if error is None else _failure(error)),
    ]
    return [(name, value) for name, value in rows if value]


def run_lines(dag: Dag, run: RunDocument) -> list[Line]:
    """The run as a picture of text."""
    from dsfn.runtime.workflows.drawing import Progress, draw_text

    found = {
        step["id"]: Progress(
            states=step["states"],
            wall_us=step["wall_us"],
            held_us=step["held_us"],
            cost_nano=step["cost"]["amount_nano"],
            retried=step["retried"],
            cached=step["cached"],
        )
        for step in run["progress"]
    }
    return draw_text(dag, found, run["cost"]["currency"])


def workflow_lines(dag: Dag) -> list[Line]:
    """A workflow as a picture of text."""
    from dsfn.runtime.workflows.drawing import draw_text

    return draw_text(dag)


def print_lines(lines: list[Line]) -> None:
    """A picture of text, coloured on a terminal."""
    if not on_terminal():
        for line in lines:
            say(line.text)
        return
    from rich.console import Console

    console = Console()
    for line in lines:
        console.print(_styled(line), soft_wrap=True)


def print_run(dag: Dag, run: RunDocument) -> None:
    """The run as it is."""
    print_fields(run_fields(run))
    say()
    print_lines(run_lines(dag, run))


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a run or of one of its steps; neither for a beat of the connection."""

    run: RunDocument | None = None
    step: RunStepDocument | None = None


def changes(chunks: Iterator[bytes]) -> Iterator[Change]:
    """What the server-sent events of a run say."""
    for kind, data in named_events(chunks):
        if kind == "run":
            yield Change(run=json.loads(data))
        elif kind == "step":
            yield Change(step=json.loads(data))
        elif not kind:
            yield Change()


def follow_live(client: WorkflowClient, dag: Dag, run: str, stream: TextIO) -> RunDocument:
    """Draws the run on a terminal until it has ended; gives it as it is then."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    def drawn(document: RunDocument) -> Group:
        head = [Text(f"{name:<9} {value}") for name, value in run_fields(document)]
        return Group(*head, Text(), *(_styled(line) for line in run_lines(dag, document)))

    console = Console(file=stream)
    last: RunDocument | None = None
    with (
        client.run_events(run) as chunks,
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        drawn_at = 0.0
        for change in changes(chunks):
            last = change.run or last
            if change.run is None and time.monotonic() - drawn_at < REDRAW_S:
                continue
            # The steps of a large run are more than what changed: the node adds them up.
            document = change.run or client.run_document(run, limit=0)
            live.update(drawn(document), refresh=True)
            drawn_at = time.monotonic()
    if last is None or last["state"] == "running":
        # The node stopped, or the connection did.
        last = client.run_document(run)
    return last


def follow_plainly(client: WorkflowClient, run: str, tell: Callable[[Change], None]) -> RunDocument:
    """Tells each change until the run has ended; gives the run as it is then."""
    last: RunDocument | None = None
    with client.run_events(run) as chunks:
        for change in changes(chunks):
            last = change.run or last
            if change != Change():
                tell(change)
    return last if last is not None else client.run_document(run)


def change_line(change: Change) -> str:
    """A change in one line: "classify[3] succeeded, 12.3 ms, 0.0001 USD"."""
    if change.step is not None:
        return _step_line(change.step)
    assert change.run is not None
    run = change.run
    words = [
        run["state"],
        _wall(run),
        f"{money(run['cost']['amount_nano'])} {run['cost']['currency']}",
    ]
    if run["error"] is not None:
        words.append(_failure(run["error"]))
    return f"run {run['id']} {', '.join(filter(None, words))}"


def dag_of(document: dict[str, Any]) -> Dag:
    """The workflow that a document describes."""
    from dsfn.functions.workflow.document import from_document

    return from_document(document)


def _step_line(step: RunStepDocument) -> str:
    words = [step["state"]]
    if step["started_at"] is not None and step["finished_at"] is not None:
        words.append(duration(_between_us(step["started_at"], step["finished_at"])))
    if step["cost"]["amount_nano"]:
        words.append(cost_words(step["cost"]))
    if step["attempts"] > 1:
        words.append(f"attempt {step['attempts']}")
    if step["cached"]:
        words.append("cached")
    if step["error"] is not None:
        words.append(str(step["error"]["detail"]))
    return f"{step['id']}{item_words(step['item'])} {', '.join(words)}"


def cost_words(cost: CostDocument) -> str:
    """An amount with its currency."""
    return f"{money(cost['amount_nano'])} {cost['currency']}"


def _failure(error: Mapping[str, Any]) -> str:
    place = f"in step {error['step']}{item_words(error.get('item'))}: " if error.get("step") else ""
    return f"{place}{error['detail']}"


def _wall(run: RunDocument) -> str:
    if run["finished_at"] is None:
        return ""
    return duration(_between_us(run["started_at"], run["finished_at"]))


def _between_us(start: str, end: str) -> int:
    passed = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return passed // timedelta(microseconds=1)


def _styled(line: Line) -> Text:
    from rich.text import Text

    return Text(line.text, style=style_of(line.state))
