"""What the engine needs of a node, in one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import apsw

from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.router import Router
from dsfn.runtime.model import Revision
from dsfn.runtime.workflows.attempts import Caller
from dsfn.runtime.workflows.books import Errors, Post
from dsfn.runtime.workflows.cache import ResultCache
from dsfn.runtime.workflows.model import WorkflowRevision
from dsfn.runtime.workflows.prices import Prices


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine needs of a node.

    `functions` and `workflows` find revisions by id. `post` has usage rows be written to the
    ledger; `post_now` writes them, before the node serves. `new_id` makes an invocation id.
    `max_bytes`: of a call's body and a run's output.
    """

    connection: apsw.Connection
    clock: Clock
    blobs: BlobStore
    router: Router
    cache: ResultCache
    caller: Caller
    functions: Callable[[str], Revision]
    workflows: Callable[[str], WorkflowRevision]
    post: Post
    post_now: Callable[[Sequence[Usage]], Errors]
    prices: Prices
    new_id: Callable[[int], str]
    max_bytes: int
