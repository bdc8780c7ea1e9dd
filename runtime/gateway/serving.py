"""How an application is served over HTTP, on a node and in a pod."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp

from dsfn.runtime.config import Limits
from dsfn.runtime.gateway.protocol import protocol_for

BACKLOG = 2048
KEEP_ALIVE_S = 75
# Between the end of the calls that were cut off and that of their connections.
CUT_OFF_GRACE_S = 5


def server_config(app: ASGIApp, limits: Limits, patience_s: float) -> uvicorn.Config:
    """uvicorn's configuration. `patience_s`: how long calls may go on once it is to stop."""
    return uvicorn.Config(
        app,
        loop="none",
        http=protocol_for(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(patience_s + CUT_OFF_GRACE_S),
    )
