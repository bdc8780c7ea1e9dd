"""A pod's metrics, whose library is imported once the pod has given its first answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING

from dsfn.billing.usage import Status
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Answer

if TYPE_CHECKING:
    from dsfn.runtime.gateway.metrics import Metrics

_MODULE = "dsfn.runtime.gateway.metrics"


@dataclass(eq=False)
class LateMetrics:
    """`Counts`. What there is to count before the library is there is kept until it is."""

    _metrics: Metrics | None = None
    _kept: list[Callable[[Metrics], None]] = field(default_factory=list)
    _coming: asyncio.Task[None] | None = None

    def answered(self, function: str, answer: Answer) -> None:
        """See `Counts`."""
        self._count(lambda metrics: metrics.answered(function, answer))

    def failed(self, function: str, error: str, status: Status = "failed") -> None:
        """See `Counts`."""
        self._count(lambda metrics: metrics.failed(function, error, status))

    def exposition(self) -> bytes:
        """See `Metrics`."""
        return self._imported().exposition()

    def _count(self, count: Callable[[Metrics], None]) -> None:
        if self._metrics is not None:
            count(self._metrics)
            return
        self._kept.append(count)
        if self._coming is None:
            self._coming = asyncio.create_task(self._come())

    async def _come(self) -> None:
        await asyncio.to_thread(import_module, _MODULE)
        self._imported()

    def _imported(self) -> Metrics:
        if self._metrics is None:
            from dsfn.runtime.gateway.metrics import Metrics

            self._metrics = Metrics()
            for count in self._kept:
                count(self._metrics)
            self._kept.clear()
        return self._metrics
