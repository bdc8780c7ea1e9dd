"""Events that start runs: the last step of their delivery."""

from __future__ import annotations

import json

from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.values import dataclass
from dsfn.runtime.events.delivery import Delivery
from dsfn.runtime.events.results import event_of_body
from dsfn.runtime.model import Answer, Charge, Phases
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.starter import Starter


@dataclass(frozen=True, slots=True)
class Triggers:
    """Starts the run that a delivery is to start: once, however often it is delivered, because
    the event's key is the run's."""

    starter: Starter
    engine: Engine
    currency: str

    async def start(self, delivery: Delivery, body: bytes) -> Answer:
        """Has an event start a run. When this returns the run survives `kill -9`.

        The answer names it and costs nothing. Raises what keeps the run from being started.
        """
        event = event_of_body(body)
        payer = delivery.payer
        run = await self.starter.from_event(
            delivery.function, event, tenant=payer.tenant, key_id=payer.key_id
        )
        id_ = await self.engine.start(run)
        return Answer(
            call_id=id_,
            revision=run.revision.id,
            content_type=JSON_CONTENT_TYPE,
            phases=Phases(),
            charge=Charge("cpu", 0, 0, 0, 0, self.currency),
            body=json.dumps({"run": id_}).encode(),
        )
