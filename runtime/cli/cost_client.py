"""A typed client of what a node says of costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from dsfn.runtime.cli.cost_documents import AdviceDocument, RunCostDocument
from dsfn.runtime.cli.transport import CALL_TIMEOUT_S, Transport


class CostClient(Transport):
    """One node: what runs cost, and what could cost less."""

    def run_cost(self, run: str) -> RunCostDocument:
        """What a run cost, by step and attempt."""
        document: RunCostDocument = self._json("GET", f"/runs/{quote(run, safe='')}/cost")
        return document

    def advice(self, query: Mapping[str, str]) -> AdviceDocument:
        """Advice for a stretch of time, as `GET /cost/advice` takes it."""
        with self._open("GET", "/cost/advice", params=query, timeout_s=CALL_TIMEOUT_S) as response:
            document: AdviceDocument = json.loads(response.read())
            return document
