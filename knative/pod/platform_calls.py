"""Calls that the control service makes: its half of one has been done there, this is the rest.

The row of the call is on its way to the books when the answer leaves, as with any call of a pod;
the control service is told of it in a header, so that it knows what its budgets and runs have used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from dsfn.billing.posting_document import posting_document
from dsfn.billing.usage import Usage
from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.knative.pod.ending import Ending
from dsfn.knative.pod.platform import Said, as_said
from dsfn.knative.pod.usage import SentUsage
from dsfn.runtime.gateway.calls import ClientWatch, send_answer
from dsfn.runtime.invoke import Caller
from dsfn.runtime.model import Call, Revision
from dsfn.runtime.problems import problem_response

# The row of the call; of a stream, what it has come to by its first byte.
USAGE_HEADER = b"dsfn-usage"


@dataclass(frozen=True, slots=True)
class PlatformCalls:
    """Serves them. First answers to keys are kept by the control service, not here."""

    caller: Caller
    revision: Revision
    usage: SentUsage
    api_key: str
    ending: Ending

    async def answer(
        self,
        call: Call,
        headers: Mapping[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serves one request. Raises as `as_said`; what a call comes to is answered here."""
        said = as_said(call, headers, self.api_key)
        posted: list[Usage] = []
        watch = ClientWatch(receive, self.ending.lost)
        said = replace(said, call=watch.watched(said.call))
        try:
            async with watch:
                await self._answer(said, posted, send)
        except DsfnError as error:
            response = problem_response(error, said.call.id)
            for name, text in (_told(row) for row in posted):
                response.headers[name.decode()] = text.decode()
            await response(scope, receive, send)

    async def _answer(self, said: Said, posted: list[Usage], send: Send) -> None:
        async def post(row: Usage) -> None:
            await self.usage.post(row)
            posted.append(row)

        answer, row = await self.caller.call(said.call, self.revision, post, said.whole)
        if answer.stream is None:
            await post(row)
        await send_answer(send, answer, None, {}, [_told(row)])


def _told(row: Usage) -> tuple[bytes, bytes]:
    return USAGE_HEADER, json.dumps(posting_document(row)).encode()
