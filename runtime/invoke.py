"""The spine: what happens to a call, from its arrival to its answer, wherever it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from os import urandom
from typing import Protocol

from dsfn.billing.usage import Usage
from dsfn.functions.errors import BudgetExceeded, DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.answers import Answers, Claim
from dsfn.runtime.metering import UsageSink
from dsfn.runtime.model import Answer, Call, Revision
from dsfn.runtime.revisions import Revisions

_NODE_NONCE = urandom(5).hex()
_CALL_NUMBERS = count()


def new_call_id(now_us: int) -> str:
    """An id for a call: sorts by time, unique across nodes (14 + 6 + 10 hex digits)."""
    return f"{now_us:014x}{next(_CALL_NUMBERS) & 0xFFFFFF:06x}{_NODE_NONCE}"


Post = Callable[[Usage], Awaitable[None]]


class Purse(Protocol):
    """What says whether a call may cost something, before it runs."""

    def reserve(self, call: Call, revision: Revision) -> Call:
        """Sets aside what a call may cost: the call, with that as its limit. Raises
        `BudgetExceeded`, `BudgetReserved`."""

    def exceeded(self, call: Call) -> BudgetExceeded | None:
        """Why a call may cost no more, when that is for a budget."""

    def release(self, call_id: str) -> None:
        """Gives back what was set aside for a call that leaves no row."""


class Caller(Protocol):
    """Where calls run: on a replica of this node, or in a pod of a cluster."""

    async def call(
        self, call: Call, revision: Revision, post: Post, whole: bool = False
    ) -> tuple[Answer, Usage]:
        """Runs a call; `whole` collects a stream into one body. Raises the tree's errors.

        The row of a failure is given to `post`; that of a success is returned, or, for a
        stream, posted when the stream ends. What was set aside for a stream is released then, too.
        """


@dataclass(frozen=True, slots=True)
class Invoker:
    """Runs calls. Every way into a function goes through `invoke`."""

    revisions: Revisions
    caller: Caller
    meter: UsageSink
    purse: Purse
    answers: Answers

    async def invoke(self, call: Call) -> Answer:
        """The answer to a call; its usage row is committed when this returns.

        A call with an idempotency key runs once: a repeat gets the first answer, or the
        error that the function itself gave. Raises the tree's errors.
        """
        revision, goes_on = self._revision(call), False
        try:
            if call.idempotency_key is not None:
                return await self._invoke_once(call, revision)
            answer, usage = await self.caller.call(call, revision, self.meter.post)
            goes_on = answer.stream is not None
            if not goes_on:
                await self.meter.post(usage)
            return answer
        finally:
            if not goes_on:
                self.purse.release(call.id)

    async def run(self, call: Call, bill: Callable[[Usage], None]) -> Answer:
        """The answer to a call whose usage row its caller keeps, to post it later: it is given to
        `bill` before this returns or raises. Raises the tree's errors.

        The caller sees to it that a call is not made again whose answer it has.
        """

        billed: list[Usage] = []

        async def post(usage: Usage) -> None:
            billed.append(usage)
            bill(usage)

        try:
            answer, usage = await self.caller.call(call, self._revision(call), post, whole=True)
            await post(usage)
            return answer
        finally:
            if not billed:
                self.purse.release(call.id)

    async def _invoke_once(self, call: Call, revision: Revision) -> Answer:
        """A call with a key: the first answer is stored with its usage before the ledger has
        the row, so that a crash between the two can be mended at the next start."""
        claim = await self.answers.claim(call)
        if claim.answer is not None:
            if claim.unposted is not None:
                await self._post_first(claim, claim.unposted)
            return claim.answer
        try:
            answer, usage = await self.caller.call(call, revision, self.meter.post, whole=True)
        except DsfnError as error:
            self.answers.refuse(claim, error)
            raise
        except BaseException:
            self.answers.release(claim)
            raise
        try:
            await self.answers.complete(claim, answer, usage)
        except DsfnError:
            self.meter.lost(usage)
            raise
        await self._post_first(claim, usage)
        return answer

    async def _post_first(self, claim: Claim, usage: Usage) -> None:
        await self.meter.post(usage, kept=True)
        self.answers.posted([claim.key])

    def _revision(self, call: Call) -> Revision:
        if call.revision is not None:
            return self.revisions.revision(call.revision)
        return self.revisions.route(call.function)
