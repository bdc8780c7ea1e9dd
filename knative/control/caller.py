"""Calls of functions that run in pods: by HTTP to the function's Knative Service.

The spine, and so the first answers to keys, budgets and runs, are the control service's; the other
half of a call, and its row in the books, are the pod's. An answer comes once its row is on its way
to the ledger, and says what that row is: it is told here to whoever counts, and not posted again.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from math import ceil
from typing import Any

import httpx
from httpx import codes

from dsfn.billing.posting_document import read_posting
from dsfn.billing.rates import RateCard
from dsfn.billing.usage import Usage
from dsfn.functions.errors import BudgetExceeded, DsfnError, ReplicaLost, Unavailable
from dsfn.functions.interface import EVENT_STREAM
from dsfn.functions.values import dataclass
from dsfn.knative.control.events_of_streams import passed_on
from dsfn.knative.manifests.function import BEYOND_TIMEOUT_S
from dsfn.knative.pod.platform import call_headers
from dsfn.knative.pod.platform_calls import USAGE_HEADER
from dsfn.runtime.charges import charge_of
from dsfn.runtime.clock import Clock
from dsfn.runtime.failures import cause_of_failure, status_of_failure
from dsfn.runtime.gateway.metrics import Metrics
from dsfn.runtime.invoke import Post, Purse
from dsfn.runtime.model import Answer, Call, Phases, Revision
from dsfn.runtime.problem_reading import problem_error
from dsfn.runtime.problems import PROBLEM_CONTENT_TYPE
from dsfn.runtime.timelines import Timelines

CONNECT_S = 10.0
# Knative gives up on a call by then, and says so.
_BEYOND_KNATIVE_S = 10
_RETRY_AFTER_S = 1.0
# Of what Knative says of a call that it could not bring to its end.
_SAID_BYTES = 300
# In the words of its own proxies (502): the call never came to a pod.
_NOT_CONNECTED = re.compile(r"\bdial tcp\b")
# In those of Envoy, which is most networking layers' (503): it was with a pod.
_CUT_OFF = re.compile(r"reset reason: (connection termination|remote reset)")


def open_client() -> httpx.AsyncClient:
    """A client for calls: as many at once as there are, since others bound that."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    return httpx.AsyncClient(limits=limits, trust_env=False)


@dataclass(frozen=True, slots=True)
class ServiceCaller:
    """`Caller` of Knative Services. `address`: the URL at which a revision is called; raises
    `Unavailable`."""

    client: httpx.AsyncClient
    address: Callable[[Revision], Awaitable[str]]
    api_key: str
    purse: Purse
    in_force: Callable[[], RateCard]
    metrics: Metrics
    timelines: Timelines
    clock: Clock

    async def call(
        self, call: Call, revision: Revision, post: Post, whole: bool = False
    ) -> tuple[Answer, Usage]:
        """See `Caller`."""
        try:
            call = self.purse.reserve(call, revision)
        except DsfnError as error:
            # Nothing ran: there is nothing for the books, but it must be seen.
            self.metrics.failed(call.function, type(error).__name__, "rejected")
            raise
        began_ns = self.clock.monotonic_ns()
        try:
            response = await self._send(call, revision, whole)
            if response.status_code != codes.OK:
                raise await self._failure(response, call, post)
            answer, usage = self._read_head(response, began_ns)
            if _is_whole(response):
                answer = replace(answer, body=await _body(response))
        except BaseException as error:
            self._failed(call, error)
            raise
        if not _is_whole(response):
            charges: list[dict[str, object]] = []
            stream = self._passed_on(response, answer, call, charges)
            return replace(answer, stream=stream, settled=lambda: charges[-1]), usage
        self._answered(call, answer)
        return answer, usage

    async def _send(self, call: Call, revision: Revision, whole: bool) -> httpx.Response:
        """The head of the answer. Raises `Unavailable`."""
        said = call_headers(call, self.api_key, whole)
        headers = [(name.encode(), text.encode()) for name, text in said.items()]
        headers.append((b"content-type", call.content_type.encode("latin-1")))
        headers.append((b"accept", call.accept.encode("latin-1")))
        most_s = ceil(revision.options.timeout_s) + BEYOND_TIMEOUT_S + _BEYOND_KNATIVE_S
        timeout = httpx.Timeout(most_s, connect=CONNECT_S)
        address = await self.address(revision)
        request = self.client.build_request(
            "POST", address, content=call.body, headers=headers, timeout=timeout
        )
        try:
            return await self.client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(
                f"The Service of {call.function} cannot be reached. If it is not there any more,"
                " deploying the function again makes it anew.",
                retry_after_s=_RETRY_AFTER_S,
            ) from error
        except httpx.TransportError as error:
            raise _lost(error) from error

    async def _failure(self, response: httpx.Response, call: Call, post: Post) -> DsfnError:
        """What a call failed for; its row, if it has one, is told."""
        body = await _body(response)
        if response.headers.get("content-type") != PROBLEM_CONTENT_TYPE:
            return _of_knative(response.status_code, body, call.function)
        error = problem_error(json.loads(body))
        # Who asked for the call is told its id by the gateway.
        error.fields = {k: v for k, v in error.fields.items() if k != "instance"}
        if USAGE_HEADER.decode() in response.headers:
            await post(_usage(response))
        if isinstance(error, BudgetExceeded) and (why := self.purse.exceeded(call)):
            why.add_fields(**{**error.fields, **why.fields})
            return why
        return error

    def _read_head(self, response: httpx.Response, began_ns: int) -> tuple[Answer, Usage]:
        usage = _usage(response)
        phases = Phases.from_server_timing(response.headers.get("server-timing", ""))
        on_the_way_us = (self.clock.monotonic_ns() - began_ns) // 1000 - phases.total_us
        answer = Answer(
            call_id=usage.invocation_id,
            revision=usage.revision,
            content_type=response.headers.get("content-type", ""),
            # What Knative needed, to start a pod among other things.
            phases=replace(phases, queue_us=phases.queue_us + max(0, on_the_way_us)),
            charge=charge_of(usage, self.in_force()),
        )
        return answer, usage

    async def _passed_on(
        self,
        response: httpx.Response,
        answer: Answer,
        call: Call,
        charges: list[dict[str, object]],
    ) -> AsyncGenerator[bytes, None]:
        """Passes a stream on; its charge is known at its end, where the stream has a place for
        that."""
        try:
            chunks = response.aiter_raw()
            if answer.content_type.startswith(EVENT_STREAM):
                chunks = passed_on(chunks, charges)
            try:
                async for chunk in chunks:
                    yield chunk
            except httpx.TransportError as error:
                raise _lost(error) from error
            self._answered(call, answer)
        except BaseException as error:
            self._failed(call, error)
            raise
        finally:
            await response.aclose()
            self.purse.release(call.id)

    def _answered(self, call: Call, answer: Answer) -> None:
        self.metrics.answered(call.function, answer)
        self.timelines.answered(call.function, answer, self.clock.now_us())

    def _failed(self, call: Call, error: BaseException) -> None:
        cause = cause_of_failure(error, call)
        self.metrics.failed(call.function, type(cause).__name__, status_of_failure(cause))


def _is_whole(response: httpx.Response) -> bool:
    return "content-length" in response.headers


async def _body(response: httpx.Response) -> bytes:
    try:
        return await response.aread()
    except httpx.TransportError as error:
        raise _lost(error) from error
    finally:
        await response.aclose()


def _usage(response: httpx.Response) -> Usage:
    """The call's row, as the answer's head tells it. Raises `Unavailable`."""
    try:
        document: Any = json.loads(response.headers[USAGE_HEADER.decode()])
        usage = read_posting(document)
    except (KeyError, ValueError):
        usage = None
    if not isinstance(usage, Usage):
        raise Unavailable("The answer does not come from a function's pod.", retry_after_s=1.0)
    return usage


def _of_knative(status: int, body: bytes, function: str) -> Unavailable:
    """An answer of Knative's own: the pod went away under the call, or it had no pod for it."""
    said = " ".join(body[:_SAID_BYTES].decode("utf-8", "replace").split()).rstrip(".")
    if (status == codes.BAD_GATEWAY and not _NOT_CONNECTED.search(said)) or _CUT_OFF.search(said):
        return _pod_lost(said or f"Knative answered {status}")
    what = f"Knative answered {status} for {function}"
    return Unavailable(f"{what}: {said}." if said else f"{what}.", retry_after_s=_RETRY_AFTER_S)


def _lost(error: httpx.TransportError) -> ReplicaLost:
    return _pod_lost(str(error) or type(error).__name__)


def _pod_lost(reason: str) -> ReplicaLost:
    return ReplicaLost(
        f"The connection to the function's pod broke: {reason}.",
        reason=reason,
        retry_after_s=_RETRY_AFTER_S,
    )
