"""What a pod asks of the control service: to write usage down, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

from dsfn.billing.posting_document import Measured, posting_document
from dsfn.billing.rates import RateCard, read_card
from dsfn.functions.errors import Conflict, StoreUnavailable, UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.pod.http import HttpClient, NoAnswer, Reply

RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Control:
    """The control service. What it does not answer raises `StoreUnavailable`."""

    client: HttpClient
    api_key: str

    async def stay(self) -> None:
        """See `Books`."""

    async def post(self, rows: Sequence[Measured]) -> dict[int, Conflict]:
        """Returns when the ledger has all rows but those that it refuses, by their index. The same
        rows may be posted again."""
        body = json.dumps({"rows": [posting_document(row) for row in rows]}).encode()
        document = await self._ask("POST", "/usage", body)
        with self._understood():
            refused = document["refused"]
            return {each["row"]: Conflict(each["problem"]["detail"]) for each in refused}

    async def has(self, invocation_id: str) -> bool:
        """Whether the ledger has the row of a call."""
        reply = await self._reply("GET", f"/usage/{quote(invocation_id, safe='')}")
        if reply.status != 404:
            self._read(reply)
        return reply.status != 404

    async def snapshot_of(self, function: str) -> str:
        """The digest of the snapshot that a function starts from, "" without one."""
        document = await self._ask("GET", f"/functions/{quote(function, safe='')}")
        with self._understood():
            return str((document["snapshot"] or {}).get("digest") or "")

    async def rates(self) -> RateCard:
        """The rate card in force."""
        listed = await self._ask("GET", "/rates")
        with self._understood():
            (number,) = (card["number"] for card in listed["rates"] if card["in_force"])
        shown = await self._ask("GET", f"/rates/{number}")
        with self._understood():
            return read_card(shown["card"])

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Mapping[str, Any]:
        return self._read(await self._reply(method, path, body))

    async def _reply(self, method: str, path: str, body: bytes = b"") -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        below = urlsplit(self.client.url).path
        try:
            return await self.client.ask(method, f"{below}{path}", headers, body)
        except NoAnswer as error:
            raise self._unavailable(str(error)) from error

    def _read(self, reply: Reply) -> Mapping[str, Any]:
        if not reply.is_success:
            raise self._unavailable(f"it answers {reply.status}")
        with self._understood():
            return dict(json.loads(reply.body))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What is read of an answer inside the block is there, and as it should be."""
        try:
            yield
        except (ValueError, TypeError, KeyError, UsageError) as error:
            raise self._unavailable("its answer is not understood") from error

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The control service at {self.client.url} cannot be used: {reason}.",
            reason=reason,
            retry_after_s=RETRY_AFTER_S,
        )
