"""The rate card by which a pod says what a call costs; what is billed is the ledger's to say."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import field

from dsfn.billing.rates import RateCard
from dsfn.functions.errors import DsfnError, StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.knative.pod.control import RETRY_AFTER_S, Control

REFRESH_S = 60.0
RETRY_S = 1.0
_LOG = logging.getLogger("dsfn.pod")


@dataclass(eq=False)
class CurrentRates:
    """The control service's card in force, as of a minute ago at most while that answers."""

    control: Control
    _card: RateCard | None = None
    _known: asyncio.Event = field(default_factory=asyncio.Event)
    _keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Asks for the card, and again every minute."""
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Asks no more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def wait(self, patience_s: float) -> None:
        """Returns once there is a card. Raises `StoreUnavailable` when that takes too long."""
        if self._card is not None:
            return
        try:
            async with asyncio.timeout(patience_s):
                await self._known.wait()
        except TimeoutError:
            raise StoreUnavailable(
                "The control service has not said yet what calls cost.",
                reason="timeout",
                retry_after_s=RETRY_AFTER_S,
            ) from None

    def in_force(self) -> RateCard:
        """The card, which has been waited for."""
        assert self._card is not None
        return self._card

    async def _keep(self) -> None:
        while True:
            try:
                self._card = await self.control.rates()
                self._known.set()
            except DsfnError as error:
                _LOG.warning("%s", error.message)
            await asyncio.sleep(REFRESH_S if self._card is not None else RETRY_S)
