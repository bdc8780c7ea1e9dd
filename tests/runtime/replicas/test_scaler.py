from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsfn.runtime.replicas.scaler import ConcurrencyMeter, Scaler

SECOND_NS = 1_000_000_000


def test_the_meter_weighs_each_value_by_how_long_it_held() -> None:
    meter = ConcurrencyMeter(now_ns=0)
    meter.add(1, SECOND_NS * 1)
    meter.add(1, SECOND_NS * 2)
    meter.add(-2, SECOND_NS * 4)
    # 0 for a second, 1 for a second, 2 for two, then 0 for four: 5 / 8.
    assert meter.take_average(SECOND_NS * 8) == 5 / 8


def test_the_meter_starts_anew_after_each_reading() -> None:
    meter = ConcurrencyMeter(now_ns=0)
    meter.add(3, 0)
    meter.take_average(SECOND_NS)
    assert meter.take_average(2 * SECOND_NS) == 3


def test_steady_load_asks_for_load_over_target() -> None:
    scaler = Scaler(concurrency=10, min_replicas=0, max_replicas=100)
    wanted = [scaler.tick(28.0, ready=4) for _ in range(120)]
    # A target of 70 % of 10 calls: 28 / 7.
    assert wanted[-1] == 4


def test_calls_one_after_the_other_need_one_replica() -> None:
    scaler = Scaler(concurrency=1, min_replicas=0, max_replicas=8)
    assert {scaler.tick(1.0, ready=1) for _ in range(120)} == {1}


def test_a_spike_is_followed_within_the_panic_window() -> None:
    scaler = Scaler(concurrency=1, min_replicas=0, max_replicas=50)
    for _ in range(60):
        scaler.tick(0.5, ready=1)
    wanted = [scaler.tick(20.0, ready=1) for _ in range(6)]
    assert wanted[-1] == 20


def test_nothing_shrinks_while_in_panic() -> None:
    scaler = Scaler(concurrency=1, min_replicas=0, max_replicas=50)
    peak = max(scaler.tick(20.0, ready=1) for _ in range(6))
    after = [scaler.tick(0.0, ready=peak) for _ in range(30)]
    assert min(after) == peak


def test_a_panic_ends_and_idle_goes_to_the_minimum() -> None:
    scaler = Scaler(concurrency=1, min_replicas=0, max_replicas=50)
    for _ in range(6):
        scaler.tick(20.0, ready=1)
    wanted = [scaler.tick(0.0, ready=29) for _ in range(180)]
    assert wanted[-1] == 0


@given(
    averages=st.lists(st.floats(0, 1000), min_size=1, max_size=200),
    concurrency=st.integers(1, 100),
    bounds=st.tuples(st.integers(0, 5), st.integers(5, 20)),
)
def test_the_wanted_number_is_always_within_its_bounds(
    averages: list[float], concurrency: int, bounds: tuple[int, int]
) -> None:
    low, high = bounds
    scaler = Scaler(concurrency=concurrency, min_replicas=low, max_replicas=high)
    ready = 1
    for average in averages:
        ready = scaler.tick(average, ready)
        assert low <= ready <= high
