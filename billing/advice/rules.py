"""What is advised: each rule looks at what a function did and may have something to say.

A rule that saves money speaks up from 1 % of what the function cost. Others have calls wait less
for more money.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dsfn.billing.advice.advice import Advice, Effect, Kind, nano, seconds_text
from dsfn.billing.advice.gaps import Outcome
from dsfn.billing.advice.history import History
from dsfn.billing.advice.latencies import Latencies
from dsfn.functions.values import dataclass

LEAST_SAVING_POINTS = 100
# More waits for a replica than this share of the calls are not for nothing.
FREE_COLD_POINTS = 100
# Fewer waits are offered where at least this share of the calls waited, and where the function
# then costs at most so much more.
COLD_POINTS = 100
MOST_MORE_POINTS = 10_000
# A batch that makes the slow calls this many times as slow is no advice.
BATCH_SLOWER = 4
_WHOLE_POINTS = 10_000

Rule = Callable[[History], Advice | None]


def effect(history: History, latencies: Latencies, cold_calls: int) -> Effect:
    """How calls were, in three numbers."""
    if not history.runs_alone:
        return Effect(cold_calls, None, None)
    return Effect(cold_calls, latencies.percentile(50), latencies.percentile(99))


def actual(history: History) -> Effect:
    """How the calls were in fact."""
    return effect(history, history.gaps.latencies(), history.gaps.cold_calls())


def parking_sooner(history: History) -> Advice | None:
    """Parking sooner, as long as hardly any more calls wait for a replica."""
    found = _Parkings.of(history)
    if found is None:
        return None
    most = found.now.cold_calls + history.calls * FREE_COLD_POINTS // _WHOLE_POINTS
    return found.saving(lambda outcome: outcome.cold_calls <= most)


def parking_cheapest(history: History) -> Advice | None:
    """Parking at the time that costs least, whoever waits for it."""
    found, sooner = _Parkings.of(history), parking_sooner(history)
    advice = None if found is None else found.saving(lambda outcome: True)
    return None if sooner is not None and advice == sooner else advice


def parking_later(history: History) -> Advice | None:
    """Parking so much later that at most half of the calls that waited for a replica do."""
    found = _Parkings.of(history)
    if found is None or not _is_cold(history, found.now.cold_calls):
        return None
    for park_after_us, outcome in found.outcomes.items():
        if park_after_us > found.park_after_us and outcome.cold_calls * 2 <= found.now.cold_calls:
            more_atto = _cost(outcome) - _cost(found.now)
            return found.advice(park_after_us) if _is_worth(history, more_atto) else None
    return None


def keeping_warm(history: History) -> Advice | None:
    """A replica that is always there, or one less."""
    if history.deployed.min_replicas:
        return _letting_go(history)
    warmth = history.warmth
    if not _is_cold(history, warmth.spared_calls) or not _is_worth(history, warmth.added_atto):
        return None
    after = history.gaps.latencies()
    after.replace(warmth.as_was, warmth.as_warm)
    return _advice(
        history,
        "keep-warm",
        "min_replicas=1",
        -warmth.added_atto,
        effect(history, after, history.gaps.cold_calls() - warmth.spared_calls),
        "One replica holds its device whenever none did.",
    )


def batching(history: History) -> Advice | None:
    """Running calls together that came while others ran."""
    found = history.batches
    most = max(found.sizes, default=1)
    if most < 2:
        return None
    before = actual(history)
    after = effect(history, found.latencies, before.cold_calls)
    if before.p99_us and after.p99_us and after.p99_us > BATCH_SLOWER * before.p99_us:
        return None
    sizes = [1 << bits for bits in range(1, (most - 1).bit_length() + 1)]
    enough_atto = found.saved_atto(sizes[-1]) * 9 // 10
    size = next(size for size in sizes if found.saved_atto(size) >= enough_atto)
    return _saving(
        history,
        "batch",
        f"max_batch={size}",
        found.saved_atto(size),
        after,
        "Each further call of a batch adds all the time that it computed, as measured; what a call"
        " held its device for beside is shared. The function takes a list and gives one as long.",
    )


def lower_precision(history: History) -> Advice | None:
    """Fewer bytes to bring back, and to keep on devices."""
    lowering, devices = history.deployed.lowering, history.deployed.devices
    if lowering is None or not 0 < lowering.bytes_after < lowering.bytes_before:
        return None
    before, after = lowering.bytes_before, lowering.bytes_after
    needed = -(-devices * after // before)
    restore_atto = history.restore_atto * after // before
    rest_atto = (restore_atto + history.idle_atto) * needed // devices
    restore_us = (history.restore_us or 0) * after // before
    fewer = f", gpu={needed}" if needed < devices else ""
    source = "as a revision of it had" if lowering.measured else "by its snapshot's tensors"
    return _saving(
        history,
        "precision",
        f'precision="{lowering.kind}"{fewer}',
        history.restore_atto + history.idle_atto - rest_atto,
        effect(history, history.gaps.latencies(restore_us), history.gaps.cold_calls()),
        f"Its weights take {after} bytes instead of {before}, {source}; bringing them back takes"
        " time in proportion, and calls take as long as before.",
    )


RULES: tuple[Rule, ...] = (
    parking_sooner,
    parking_cheapest,
    parking_later,
    keeping_warm,
    batching,
    lower_precision,
)


@dataclass(frozen=True, slots=True)
class _Parkings:
    """What each time until parking comes to, for a function that parks its replicas."""

    history: History
    restore_us: int
    outcomes: Mapping[int, Outcome]

    @classmethod
    def of(cls, history: History) -> _Parkings | None:
        """None where replicas are always there, or nothing says what bringing one back takes."""
        restore_us, gaps = history.restore_us, history.gaps
        if history.deployed.min_replicas or restore_us is None:
            return None
        return cls(
            history, restore_us, {us: gaps.outcome(us, restore_us) for us in gaps.candidates_us}
        )

    @property
    def park_after_us(self) -> int:
        """As it is."""
        return self.history.deployed.park_after_us

    @property
    def now(self) -> Outcome:
        """What that comes to."""
        return self.outcomes[self.park_after_us]

    def saving(self, takes: Callable[[Outcome], bool]) -> Advice | None:
        """The cheapest of those that will do, if it is worth it; of equal ones the longest."""
        good = [us for us, outcome in self.outcomes.items() if takes(outcome)]
        best_us = min(good, key=lambda us: (_cost(self.outcomes[us]), -us))
        return _worth_it(self.history, self.advice(best_us))

    def advice(self, park_after_us: int) -> Advice:
        """To park after this time."""
        outcome = self.outcomes[park_after_us]
        change = f'park_after="{seconds_text(park_after_us)}"'
        if park_after_us > self.history.deployed.remove_after_us:
            change += f', remove_after="{seconds_text(park_after_us)}"'
        return _advice(
            self.history,
            "park-after",
            change,
            _cost(self.now) - _cost(outcome),
            effect(self.history, outcome.latencies, outcome.cold_calls),
            _comes_back(self.restore_us),
        )


def _is_cold(history: History, cold_calls: int) -> bool:
    """Whether so many calls waited that it is worth a thought."""
    return cold_calls > 0 and cold_calls * _WHOLE_POINTS >= COLD_POINTS * history.calls


def _is_worth(history: History, more_atto: int) -> bool:
    """Whether a function may cost so much more for fewer waits."""
    return more_atto * _WHOLE_POINTS <= MOST_MORE_POINTS * history.cost_atto


def _letting_go(history: History) -> Advice | None:
    """No replica that is always there."""
    restore_us, deployed = history.restore_us, history.deployed
    if restore_us is None:
        return None
    outcome = history.gaps.outcome(deployed.park_after_us, restore_us)
    return _saving(
        history,
        "keep-warm",
        "min_replicas=0",
        history.idle_atto + history.restore_atto - _cost(outcome),
        effect(history, outcome.latencies, outcome.cold_calls),
        _comes_back(restore_us),
    )


def _cost(outcome: Outcome) -> int:
    return outcome.idle_atto + outcome.restore_atto


def _saving(
    history: History, kind: Kind, change: str, saved_atto: int, after: Effect, assumption: str
) -> Advice | None:
    """Advice, if it is worth it."""
    return _worth_it(history, _advice(history, kind, change, saved_atto, after, assumption))


def _worth_it(history: History, found: Advice) -> Advice | None:
    least_nano = nano(history.cost_atto * LEAST_SAVING_POINTS // _WHOLE_POINTS)
    return found if found.saving_nano >= max(1, least_nano) else None


def _advice(
    history: History, kind: Kind, change: str, saved_atto: int, after: Effect, assumption: str
) -> Advice:
    cost_nano = nano(history.cost_atto)
    return Advice(
        function=history.deployed.function,
        kind=kind,
        change=change,
        cost_nano=cost_nano,
        changed_nano=cost_nano - nano(saved_atto),
        before=actual(history),
        after=after,
        calls=history.calls,
        assumption=assumption,
    )


def _comes_back(restore_us: int) -> str:
    whole, rest = divmod(restore_us, 1000)
    return f"A replica comes back in {whole}.{rest:03d} ms, as it did in the mean."
