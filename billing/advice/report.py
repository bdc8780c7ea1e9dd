"""What would have been saved in a stretch of time, function by function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from dsfn.billing.advice.advice import Advice, Effect, nano
from dsfn.billing.advice.deployed import Deployed
from dsfn.billing.advice.history import History
from dsfn.billing.advice.reading import read
from dsfn.billing.advice.rules import RULES, actual, effect
from dsfn.billing.ledger import Ledger
from dsfn.billing.periods import moment_text
from dsfn.billing.rates import RateBook
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Parking:
    """What parking after this time would have come to: idle and restore time."""

    park_after_us: int
    cost_nano: int
    effect: Effect


@dataclass(frozen=True, slots=True)
class FunctionCost:
    """What a function's device time came to, by the list. `parking`: other times until parking,
    none where no replica was ever brought back. `keep_warm_nano` is what a replica that is always
    there would have added, and `keep_warm_spared` how many calls would not have waited."""

    function: str
    calls: int
    requests_nano: int
    restore_nano: int
    idle_nano: int
    effect: Effect
    parking: tuple[Parking, ...]
    keep_warm_nano: int
    keep_warm_spared: int

    @property
    def cost_nano(self) -> int:
        """All of it."""
        return self.requests_nano + self.restore_nano + self.idle_nano

    def to_document(self) -> dict[str, Any]:
        """This as a JSON-able document."""
        return {
            "function": self.function,
            "calls": self.calls,
            "cost_nano": self.cost_nano,
            "requests_nano": self.requests_nano,
            "restore_nano": self.restore_nano,
            "idle_nano": self.idle_nano,
            **asdict(self.effect),
            "parking": [
                {
                    "park_after_us": each.park_after_us,
                    "cost_nano": each.cost_nano,
                    **asdict(each.effect),
                }
                for each in self.parking
            ],
            "keep_warm": {
                "cost_nano": self.keep_warm_nano,
                "spared_calls": self.keep_warm_spared,
            },
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The advice for [start_us, end_us), what saves most first. What several pieces of advice save
    together is less than their sum, where they are about one function."""

    start_us: int
    end_us: int
    currency: str
    functions: tuple[FunctionCost, ...]
    advice: tuple[Advice, ...]

    @property
    def saving_nano(self) -> int:
        """The sum of what the best advice for each function saves."""
        best: dict[str, int] = {}
        for each in self.advice:
            best[each.function] = max(best.get(each.function, 0), each.saving_nano)
        return sum(best.values())

    def to_document(self) -> dict[str, Any]:
        """This as a JSON-able document."""
        return {
            "start": moment_text(self.start_us),
            "end": moment_text(self.end_us),
            "currency": self.currency,
            "cost_nano": sum(each.cost_nano for each in self.functions),
            "saving_nano": self.saving_nano,
            "functions": [each.to_document() for each in self.functions],
            "advice": [each.to_document() for each in self.advice],
        }


def advise(
    ledger: Ledger, book: RateBook, deployed: Iterable[Deployed], start_us: int, end_us: int
) -> Report:
    """What other options of the `deployed` functions would have come to in [start_us, end_us).

    The rows are read once, in order; what is kept of them does not grow with their number.
    """
    histories = read(
        ledger.between(start_us, end_us),
        ledger.intervals(start_us, end_us),
        book,
        deployed,
        start_us,
        end_us,
    )
    used = [histories[name] for name in sorted(histories) if histories[name].cost_atto]
    found = [advice for history in used for rule in RULES if (advice := rule(history)) is not None]
    found.sort(key=lambda each: (-each.saving_nano, each.function, each.kind))
    return Report(start_us, end_us, book.currency, tuple(map(_cost, used)), tuple(found))


def _cost(history: History) -> FunctionCost:
    restore_us, gaps = history.restore_us, history.gaps
    parking = []
    for park_after_us in gaps.candidates_us if restore_us is not None else ():
        outcome = gaps.outcome(park_after_us, restore_us or 0)
        cost_nano = nano(outcome.idle_atto + outcome.restore_atto)
        shown = effect(history, outcome.latencies, outcome.cold_calls)
        parking.append(Parking(park_after_us, cost_nano, shown))
    return FunctionCost(
        function=history.deployed.function,
        calls=history.calls,
        requests_nano=nano(history.calls_atto),
        restore_nano=nano(history.restore_atto),
        idle_nano=nano(history.idle_atto),
        effect=actual(history),
        parking=tuple(parking),
        keep_warm_nano=nano(history.warmth.added_atto),
        keep_warm_spared=history.warmth.spared_calls,
    )
