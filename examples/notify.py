"""A function that hears of another one's results: deployed by `make demo`.

dsfn deploy examples/notify.py
dsfn logs notify
"""

from __future__ import annotations

import dsfn


@dsfn.on(type="dev.dsfn.function.completed", source="/functions/detect-speech")
@dsfn.function(name="notify")
def notify(event: dsfn.Event) -> None:
    """Prints when somebody speaks in a recording."""
    found = event.json()
    times = ", ".join(f"{s['start_s']:.1f} to {s['end_s']:.1f} s" for s in found["segments"])
    print(f"In {found['duration_s']:.1f} s somebody speaks from {times}.")  # noqa: T201
