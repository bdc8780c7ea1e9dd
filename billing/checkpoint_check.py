"""Whether checkpoints are signed and what they say is so, here and wherever else they are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from dsfn.billing.chain import Head
from dsfn.billing.checkpoints import Checkpoint, read_checkpoint
from dsfn.billing.evidence import MAX_COMPARED, Evidence
from dsfn.billing.succession import Terms
from dsfn.billing.verification import Problem
from dsfn.functions.errors import StoreUnavailable
from dsfn.functions.values import dataclass

# Checkpoints by number: what each place has for it.
_Copies = dict[int, dict[str, str]]


@dataclass(slots=True)
class CheckpointCheck:
    """Looks at the checkpoints of a ledger as it was at one moment.

    `terms`: who may have signed them. `last`: the last row of each chain; `hash_of` gives the hash
    of a row, None where that is missing.
    """

    terms: Terms
    last: Mapping[int, int]
    hash_of: Callable[[int, int], bytes | None]
    count: int = 0
    problems: list[Problem] = field(default_factory=list)
    _before: Checkpoint | None = None
    _wrong_chains: set[int] = field(default_factory=set)

    def look_at(self, kept: Iterable[tuple[int, str]], copies: _Copies) -> None:
        """Looks at the checkpoints in the database, in their order, and at copies of them."""
        expected = 1
        for number, text in kept:
            if number != expected:
                self._problem(f"Checkpoint {expected} is missing.")
                self._before = None
            expected = number + 1
            self.count += 1
            self._look_at(number, text)
            for place, copy in copies.pop(number, {}).items():
                if copy != text:
                    self._problem(f"Checkpoint {number} in {place} is another than here.")
        for number, of_places in sorted(copies.items()):
            if number >= expected:
                places = ", ".join(of_places)
                self._problem(f"Checkpoint {number} is in {places} and not here.")
                self._before = None
                self._look_at(number, next(iter(of_places.values())))

    def _look_at(self, number: int, text: str) -> None:
        try:
            checkpoint = read_checkpoint(text)
        except ValueError:
            self._problem(f"Checkpoint {number} cannot be read.")
            self._before = None
            return
        before = self._before
        if checkpoint.number != number or (before and checkpoint.previous != before.digest()):
            self._problem(f"Checkpoint {number} does not follow the one before.")
        self._before = checkpoint
        term = self.terms.get(checkpoint.public_key)
        if self.terms and (term is None or number > term.last_number):
            self._problem(f"Checkpoint {number} is signed with another key.", "signature")
        elif not checkpoint.is_signed():
            self._problem(f"The signature of checkpoint {number} is wrong.", "signature")
        else:
            self._hold_against_rows(checkpoint)

    def _hold_against_rows(self, checkpoint: Checkpoint) -> None:
        for chain, head in checkpoint.heads:
            # One that is wrong makes all later ones wrong.
            if head.seq and chain not in self._wrong_chains and not self._is_right(chain, head):
                self._wrong_chains.add(chain)
                self._name(checkpoint, chain, head)

    def _is_right(self, chain: int, head: Head) -> bool:
        return self.hash_of(chain, head.seq) == head.hash

    def _name(self, checkpoint: Checkpoint, chain: int, head: Head) -> None:
        where = f"of chain {chain} " if chain else ""
        last = self.last.get(chain, 0)
        if head.seq > last:
            missing = f"Rows {last + 1} to {head.seq} {where}are missing"
            detail = f"{missing}: checkpoint {checkpoint.number} was signed when they were there."
            self.problems.append(Problem(last + 1, "cut off", detail))
        else:
            detail = (
                f"Row {head.seq} {where}is not the one that checkpoint {checkpoint.number} was"
                " signed for: it or a row before it was made anew."
            )
            self.problems.append(Problem(head.seq, "checkpoint", detail))

    def _problem(self, detail: str, kind: str = "checkpoint") -> None:
        self.problems.append(Problem(None, kind, detail))


def read_copies(evidence: Evidence, last: int) -> tuple[_Copies, list[Problem]]:
    """The newest checkpoints of all places, and those places that could not be read. `last`: the
    number of the last checkpoint in the database."""
    copies: _Copies = defaultdict(dict)
    problems = []
    for place in evidence.places:
        try:
            for number, text in place.since(max(1, last - MAX_COMPARED), 2 * MAX_COMPARED):
                copies[number][place.name] = text
        except StoreUnavailable as error:
            detail = f"The checkpoints in {place.name} could not be read: {error.message}"
            problems.append(Problem(None, "unreachable", detail))
    return copies, problems
