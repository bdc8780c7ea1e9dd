"""Which keys may have signed a ledger, and until when: each key names the one that follows it.

A key that is given up signs a last checkpoint, which names the next key and itself. The next key
signs one that follows that, so each vouches for the other: whoever trusted the old key finds the
new one, and who trusts the new one finds the old. The old one counts for nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dsfn.billing.checkpoints import Checkpoint, read_checkpoint
from dsfn.functions.values import dataclass

_FOR_EVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Term:
    """The number of the last checkpoint that a key may have signed, and when it signed that."""

    last_number: int = _FOR_EVER
    until_us: int = _FOR_EVER


# By public keys, in hex; without any, every key may have signed.
Terms = Mapping[str, Term]


def terms_of(checkpoints: Iterable[tuple[int, str]], public_keys: Iterable[str]) -> Terms:
    """The terms of keys that are trusted, and of those before them."""
    terms = dict.fromkeys(public_keys, Term())
    for last in reversed(list(_rotations(checkpoints)) if terms else []):
        if last.next_key in terms:
            terms.setdefault(last.public_key, Term(last.number, last.at_us))
    return terms


def _rotations(checkpoints: Iterable[tuple[int, str]]) -> Iterator[Checkpoint]:
    """The last checkpoints of keys that the next key has followed."""
    last: Checkpoint | None = None
    for _, text in checkpoints:
        # Nearly none is, and reading all of them twice would take its time.
        if last is None and '"next_key"' not in text:
            continue
        try:
            checkpoint = read_checkpoint(text)
        except ValueError:
            last = None
            continue
        if last is not None and _follows(checkpoint, last):
            yield last
        last = checkpoint if checkpoint.next_key else None


def _follows(first: Checkpoint, last: Checkpoint) -> bool:
    is_next = (first.public_key, first.previous) == (last.next_key, last.digest())
    return is_next and first.is_signed() and last.is_signed()
