"""The check of a data directory's ledger, whether a node runs there or not."""

from __future__ import annotations

import struct
from contextlib import suppress

import apsw

from dsfn.billing.evidence import Evidence
from dsfn.billing.signing import FILE_NAME, SigningKey
from dsfn.billing.spool_damage import problems_in
from dsfn.billing.verification import Problem, Verification
from dsfn.billing.verify import Books, verify
from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.config import Settings
from dsfn.runtime.ledgers import open_books, settle
from dsfn.runtime.notary.places import open_place


def check_ledger(settings: Settings) -> Verification:
    """What the check finds; of a file that cannot be read, that. What a node that was killed has
    left for its ledger is posted first.

    Raises `UsageError` when there is no ledger, `StoreUnavailable`.
    """
    # Where it cannot be posted now it waits on, as it does for a node that runs.
    with suppress(DsfnError):
        settle(settings)
    with open_books(settings) as books:
        found = _check(books, evidence_of(settings))
    return found.and_also(problems_in(settings.data_dir))


def evidence_of(settings: Settings) -> Evidence:
    """The node's own key, if it has one, and the places that its checkpoints are put to. With a
    key there has been a notary."""
    path = settings.data_dir / FILE_NAME
    has_notary = path.exists()
    keys = {SigningKey.open(path).public_key} if has_notary else ()
    return Evidence(frozenset(keys), tuple(map(open_place, settings.checkpoints)), has_notary)


def _check(books: Books, evidence: Evidence) -> Verification:
    try:
        return verify(books, evidence)
    # What a damaged file holds may be anything: numbers for texts, bytes that are no UTF-8.
    except (UsageError, apsw.Error, ValueError, TypeError, AttributeError, struct.error) as error:
        problem = Problem(None, "unreadable", str(error))
        return Verification(ok=False, rows=0, checkpoints=0, problems=(problem,))
