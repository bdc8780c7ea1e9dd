"""Usage as CloudEvents, in the shape that meters such as OpenMeter take.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md,
https://openmeter.io/docs/metering/events/usage-events.
"""

from __future__ import annotations

from typing import Any

from dsfn.billing.entry import Entry
from dsfn.billing.periods import moment_text

USED = "dev.dsfn.usage"
# What is never billed: refused before it ran, or lost to a fault of the platform's own.
UNBILLED = "dev.dsfn.usage.unbilled"
_NEVER_BILLED = ("rejected", "platform")
_SOURCES = {"usage": "/ledger/usage", "reversal": "/ledger/reversals"}


def usage_event(entry: Entry) -> dict[str, Any]:
    """The event of a row of the journal that is a call, or takes one back.

    `source` and `id`, the invocation's, are the same whenever the row is sent: receivers tell
    repeats by them. Times are x devices; those of a row that takes a call back are below 0, so
    that sums come out right.
    """
    sign = -1 if entry.kind == "reversal" else 1
    times = sign * entry.devices
    return {
        "specversion": "1.0",
        "type": UNBILLED if entry.status in _NEVER_BILLED else USED,
        "source": _SOURCES[entry.kind],
        "id": entry.id,
        "time": moment_text(entry.started_at_us),
        "subject": entry.tenant,
        "datacontenttype": "application/json",
        "data": {
            "tenant": entry.tenant,
            "key": entry.key_id,
            "function": entry.function,
            "revision": entry.revision,
            "workflow": entry.workflow,
            "run": entry.run,
            "step": entry.step,
            "device_class": entry.device_class,
            "devices": entry.devices,
            "status": entry.status,
            "month": entry.period,
            "requests": sign,
            "busy_us": times * entry.busy_us,
            "held_us": times * entry.held_us,
            "restore_us": times * entry.restore_us,
        },
    }
