"""How long the control service may be without a leader for those who ask it.

Nothing is imported here: a pod, which is to start fast, reads it as well.
"""

from __future__ import annotations

# So long takes what usually comes between: the Lease of a leader that died runs out, and the next
# one starts. So long a connection waits at the other replica. Commands wait a little longer, and so
# do pods, whose requests are shorter: see `CONTROL_PATIENCE_S`.
DOOR_PATIENCE_S = 28.0
