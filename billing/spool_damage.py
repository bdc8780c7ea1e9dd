"""What of a spool was damaged: kept aside, and named by every check, until somebody takes it away.

    {"file": NAME, "after": NUMBER or null, "before": NUMBER or null, "lines": [TEXT, ...]}

Each line of the file is one place in a spool where records are missing or cannot be read: a
`Damage`. The format is described in docs/ledger-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from dsfn.billing.durable import write_whole
from dsfn.billing.spool_records import Damage
from dsfn.billing.verification import MAX_PROBLEMS, Problem
from dsfn.functions.values import dataclass

FILE_NAME = "ledger.spool.damaged"
# Whoever was killed after a commit leaves rows in the spool that the ledger has.
_LOST = "The ledger may lack the rows that were there."


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damage, and the name of the file of the spool that has it."""

    file: str
    damage: Damage

    def sentence(self) -> str:
        """What is wrong, to a person."""
        after, before, lines = self.damage.after, self.damage.before, self.damage.lines
        sides = [f"after record {after}"] if after is not None else []
        sides += [f"before record {before}"] if before is not None else []
        where = " ".join([self.file, " and ".join(sides)]).rstrip()
        if not lines:
            return f"Records of {where} are missing. {_LOST}"
        what = "A line" if len(lines) == 1 else f"{len(lines)} lines"
        return f"{what} of {where} cannot be read: what is left is in {FILE_NAME}. {_LOST}"


def keep(directory: Path, found: Sequence[Damaged]) -> None:
    """Keeps what was found, for good when it returns. What is kept already is not kept twice: a
    spool that could not be posted is read again. Raises `OSError`."""
    if not found:
        return
    path = directory / FILE_NAME
    kept = path.read_bytes().rstrip(b"\n").split(b"\n") if path.exists() else []
    fresh = [line for line in map(_line_of, found) if line not in kept]
    if fresh:
        lines = b"".join(line + b"\n" for line in (*kept, *fresh))
        write_whole(path, lines, durably=True)


def problems_in(directory: Path) -> list[Problem]:
    """What is kept there, as a check names it."""
    path = directory / FILE_NAME
    try:
        with path.open("rb") as file:
            return [
                Problem(None, "spool", _sentence_of(line)) for line in islice(file, MAX_PROBLEMS)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        return [Problem(None, "spool", f"{path} cannot be read: {error.strerror}.")]


def _line_of(found: Damaged) -> bytes:
    return json.dumps({"file": found.file, **asdict(found.damage)}).encode()


def _sentence_of(line: bytes) -> str:
    try:
        document = json.loads(line)
        damage = Damage(document["after"], document["before"], tuple(document["lines"]))
        return Damaged(document["file"], damage).sentence()
    except (ValueError, TypeError, KeyError):
        return f"{FILE_NAME} has a line that cannot be read, of a damage that was found before."
