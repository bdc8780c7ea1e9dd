"""How long the control service may be without a leader for those who ask it.

Nothing is imported here: a pod, which is to start fast, reads it as well.
"""

from __future__ import annotations

# So long takes what usually comes between: a leader that is told to stop answers what is under way,
# or the Lease of one that died runs out, and the next one starts. So long a connection waits at the
# other replica. Commands wait a little longer, and so do pods, whose requests are shorter: see
# `CONTROL_PATIENCE_S`.
DOOR_PATIENCE_S = 28.0
# A leader that is told to stop cuts off a little later what it still waits for. Since it takes no
# rows meanwhile, a call that it waits for can only fail where it needs the next leader: its pod
# says so before it is cut off.
LEADERS_CALL_PATIENCE_S = 20.0
