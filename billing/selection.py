"""Which usage is asked for, and told apart by what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal, get_args

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

By = Literal["function", "revision", "workflow", "run", "step", "day", "key"]
BYS: tuple[str, ...] = get_args(By)
# The journal has the run and the step of a row; roll-ups do not.
NOT_ROLLED_UP: tuple[str, ...] = ("run", "step")
# By these there may be as many lines as there were calls.
MAX_SUMS = 100_000
FIRST_MONTH, LAST_MONTH = "1970-01", "9999-12"


@dataclass(frozen=True, slots=True)
class Selection:
    """The usage in [start_us, end_us) that is billed in the months from `first` to `last`, of
    `tenant` ("": of all), told apart by tenant, function, device class, status and `by`."""

    start_us: int
    end_us: int
    by: By = "function"
    first: str = FIRST_MONTH
    last: str = LAST_MONTH
    tenant: str = ""

    def bindings(self) -> dict[str, int | str]:
        """The values by their names, as statements in SQL take them."""
        return asdict(self)


def too_many(selection: Selection) -> UsageError:
    """The refusal of a bill that would have too many lines."""
    return UsageError(
        f"A bill by {selection.by} has at most {MAX_SUMS} lines: choose a shorter time, or one"
        " tenant."
    )
