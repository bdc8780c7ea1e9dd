"""What a check of a ledger found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from dsfn.functions.values import dataclass

# A check names no more than this.
MAX_PROBLEMS = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `row`: the row's number in its chain, None where it is about none;
    `kind`: one of those that docs/ledger-format.md lists; `detail`: a sentence."""

    row: int | None
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How many rows and checkpoints were looked at, and all that is wrong with them."""

    ok: bool
    rows: int
    checkpoints: int
    problems: tuple[Problem, ...] = ()

    def and_also(self, problems: Sequence[Problem]) -> Verification:
        """This result, with what is wrong beside the rows."""
        together = (*self.problems, *problems)[:MAX_PROBLEMS]
        return replace(self, ok=self.ok and not problems, problems=together)

    def to_document(self) -> dict[str, Any]:
        """This result as a JSON-able document."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "checkpoints": self.checkpoints,
            "problems": [asdict(problem) for problem in self.problems],
        }
