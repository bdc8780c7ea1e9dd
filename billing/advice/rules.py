"""What is advised: each rule looks at what a function did and may have something to say.

A rule that saves money speaks up from 1 % of what the function cost.
"""

from __future__ import annotations

from collections.abc import Callable

from dsfn.billing.advice.advice import Advice, Effect, Kind, nano, seconds_text
from dsfn.billing.advice.gaps import Outcome
from dsfn.billing.advice.history import History
from dsfn.billing.advice.latencies import Latencies

LEAST_SAVING_POINTS = 100
# A replica that is kept is offered where at least so many of the calls waited for one, and where
# the function costs at most so much more.
KEEP_WARM_COLD_POINTS = 100
KEEP_WARM_MOST_POINTS = 10_000
# A batch that makes the slow calls this many times as slow is no advice.
BATCH_SLOWER = 4
_WHOLE_POINTS = 10_000

Rule = Callable[[History], Advice | None]


def effect(latencies: Latencies, cold_calls: int) -> Effect:
    """How calls were, in three numbers."""
    return Effect(cold_calls, latencies.percentile(50), latencies.percentile(99))


def actual(history: History) -> Effect:
    """How the calls were in fact."""
    return effect(history.gaps.latencies(), history.gaps.cold_calls())


def parking(history: History) -> Advice | None:
    """Parking sooner or later."""
    deployed, restore_us = history.deployed, history.restore_us
    if deployed.min_replicas or restore_us is None:
        return None
    now = history.gaps.outcome(deployed.park_after_us, restore_us)
    outcomes = {us: history.gaps.outcome(us, restore_us) for us in history.gaps.candidates_us}
    best_us = min(outcomes, key=lambda us: (_cost(outcomes[us]), us))
    change = f'park_after="{seconds_text(best_us)}"'
    if best_us > deployed.remove_after_us:
        change += f', remove_after="{seconds_text(best_us)}"'
    return _saving(
        history,
        "park-after",
        change,
        _cost(now) - _cost(outcomes[best_us]),
        effect(outcomes[best_us].latencies, outcomes[best_us].cold_calls),
        f"A replica comes back in {_milliseconds(restore_us)}, as it did in the mean.",
    )


def keeping_warm(history: History) -> Advice | None:
    """A replica that is always there, or one less."""
    if history.deployed.min_replicas:
        return _letting_go(history)
    warmth = history.warmth
    is_cold = warmth.spared_calls * _WHOLE_POINTS >= KEEP_WARM_COLD_POINTS * history.calls
    is_cheap = warmth.added_atto * _WHOLE_POINTS <= KEEP_WARM_MOST_POINTS * history.cost_atto
    if not (warmth.spared_calls and is_cold and is_cheap):
        return None
    after = history.gaps.latencies()
    after.replace(warmth.as_was, warmth.as_warm)
    return _advice(
        history,
        "keep-warm",
        "min_replicas=1",
        -warmth.added_atto,
        effect(after, history.gaps.cold_calls() - warmth.spared_calls),
        "One replica holds its device whenever none did.",
    )


def batching(history: History) -> Advice | None:
    """Running calls together that came while others ran."""
    found = history.batches
    most = max(found.sizes, default=1)
    if most < 2:
        return None
    before = actual(history)
    after = effect(found.latencies, before.cold_calls)
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
        effect(history.gaps.latencies(restore_us), history.gaps.cold_calls()),
        f"Its weights take {after} bytes instead of {before}, {source}; bringing them back takes"
        " time in proportion, and calls take as long as before.",
    )


RULES: tuple[Rule, ...] = (parking, keeping_warm, batching, lower_precision)


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
        effect(outcome.latencies, outcome.cold_calls),
        f"A replica comes back in {_milliseconds(restore_us)}, as it did in the mean.",
    )


def _cost(outcome: Outcome) -> int:
    return outcome.idle_atto + outcome.restore_atto


def _saving(
    history: History, kind: Kind, change: str, saved_atto: int, after: Effect, assumption: str
) -> Advice | None:
    """Advice that is worth it."""
    if saved_atto * _WHOLE_POINTS < LEAST_SAVING_POINTS * history.cost_atto or saved_atto <= 0:
        return None
    found = _advice(history, kind, change, saved_atto, after, assumption)
    return found if found.saving_nano > 0 else None


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


def _milliseconds(time_us: int) -> str:
    whole, rest = divmod(time_us, 1000)
    return f"{whole}.{rest:03d} ms"
