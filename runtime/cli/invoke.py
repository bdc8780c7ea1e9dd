"""`dsfn invoke`."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated

import typer

from dsfn.functions.errors import Unavailable, UsageError
from dsfn.functions.values import dataclass
from dsfn.runtime.cli.bars import call_spans, print_bars
from dsfn.runtime.cli.client import Client
from dsfn.runtime.cli.documents import ResultDocument
from dsfn.runtime.cli.options import (
    ContentTypeOption,
    EventIdOption,
    EventOption,
    EventSourceOption,
    EventTypeOption,
    FileOption,
    JsonOption,
    NameArgument,
    OutputOption,
    connect,
)
from dsfn.runtime.cli.output import complain, print_json, say, size
from dsfn.runtime.cli.reply import Reply
from dsfn.runtime.cli.request import CallRequest, event_options, request_from
from dsfn.runtime.cli.result import Collected, collect_result, print_result, write_result
from dsfn.runtime.cli.transport import CALL_TIMEOUT_S
from dsfn.runtime.problem_reading import problem_error

_POLL_MIN_S = 0.02
_POLL_MAX_S = 1.0


def invoke(
    name: NameArgument,
    data: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE", help="The parameters as JSON, or a file with them."),
    ] = None,
    file: FileOption = None,
    content_type: ContentTypeOption = None,
    event: EventOption = False,
    event_type: EventTypeOption = None,
    source: EventSourceOption = None,
    event_id: EventIdOption = None,
    later: Annotated[
        bool, typer.Option("--async", help="Queue the call and print the invocation's id.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="With --async: wait for the result and print it.")
    ] = False,
    output: OutputOption = None,
    timing: Annotated[bool, typer.Option("--timing", help="Show where the time went.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Call a function."""
    attributes = event_options(event, event_type, source, event_id)
    if wait and not later:
        raise UsageError("--wait belongs to --async.")
    if timing and later:
        raise UsageError("--timing cannot be with --async: only a direct answer tells its phases.")
    request = request_from(data, file, content_type, attributes)
    with connect() as client:
        sink = Sink(client, name, output, timing, json_output)
        if later:
            _call_later(client, name, request, sink if wait else None, json_output)
        else:
            _call_now(client, name, request, sink)


@dataclass(frozen=True, slots=True)
class Sink:
    """Where a result goes: a file, a JSON document, or the screen."""

    client: Client
    name: str
    output: Path | None
    timing: bool
    json_output: bool

    def take(self, reply: Reply, begun_ns: int) -> None:
        """Reads the reply to its end. `begun_ns`: monotonic, when the call was sent."""
        collected: Collected | None = None
        if self.output is not None:
            collected = Collected(None, None, write_result(reply, self.output))
        elif self.json_output:
            collected = collect_result(reply)
        else:
            print_result(reply, self._streams_text)
        total_us = (time.monotonic_ns() - begun_ns) // 1000
        if self.json_output and collected is not None:
            print_json(self._document(reply, collected, total_us))
        elif self.output is not None and collected is not None:
            complain(f"{size(collected.bytes)} of {reply.media_type} are in {self.output}.")
        if self.timing and not self.json_output:
            print_bars(call_spans(reply.phases_us, total_us), total_us, beside_result=True)

    def _document(self, reply: Reply, collected: Collected, total_us: int) -> ResultDocument:
        encoded = None if collected.data is None else base64.b64encode(collected.data).decode()
        return {
            "id": reply.id,
            "function": self.name,
            "revision": reply.revision,
            "content_type": reply.content_type,
            "bytes": collected.bytes,
            "result": collected.value,
            "result_base64": encoded,
            "output": None if self.output is None else str(self.output),
            "replayed": reply.replayed,
            "phases_us": dict(reply.phases_us),
            "total_us": total_us,
            "charge": reply.charge or collected.charge,
        }

    def _streams_text(self) -> bool:
        """A stream's content type does not tell text from JSON; the function's types do."""
        kind: str = self.client.function(self.name)["interface"]["result"]["kind"]
        return kind == "text"


def _call_now(client: Client, name: str, request: CallRequest, sink: Sink) -> None:
    begun_ns = time.monotonic_ns()
    with client.call(name, request.body, request.headers) as reply:
        sink.take(reply, begun_ns)


def _call_later(
    client: Client, name: str, request: CallRequest, sink: Sink | None, json_output: bool
) -> None:
    """Queues the call; with a sink it waits for the result, too."""
    begun_ns = time.monotonic_ns()
    call_id = client.call_later(name, request.body, request.headers)
    if sink is not None:
        _wait(client, call_id)
        with client.result(call_id) as reply:
            sink.take(reply, begun_ns)
    elif json_output:
        print_json(client.invocation(call_id))
    else:
        say(call_id)


def _wait(client: Client, call_id: str) -> None:
    """Returns once the call has succeeded. Raises the error it ended with."""
    pause_s, deadline = _POLL_MIN_S, time.monotonic() + CALL_TIMEOUT_S
    while time.monotonic() < deadline:
        invocation = client.invocation(call_id)
        if invocation["state"] == "succeeded":
            return
        if invocation["state"] == "failed":
            raise problem_error(invocation["error"] or {})
        time.sleep(pause_s)
        pause_s = min(_POLL_MAX_S, pause_s * 1.5)
    raise Unavailable(f"The invocation {call_id} has not ended within a day.")
