from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsfn.runtime.replicas.occupancy import Occupancy, Slot


def test_a_lone_call_holds_all_of_the_time() -> None:
    occupancy = Occupancy()
    slot = Slot(occupancy, occupancy.enter(1_000))
    slot.release(51_000)
    assert slot.held_us(99_000) == 50


def test_two_calls_at_once_hold_half_each() -> None:
    occupancy = Occupancy()
    first = Slot(occupancy, occupancy.enter(0))
    second = Slot(occupancy, occupancy.enter(10_000))
    assert second.held_us(30_000) == 10
    first.release(30_000)
    second.release(50_000)
    # 10 alone and half of 20; half of 20 and 20 alone.
    assert (first.held_us(0), second.held_us(0)) == (20, 30)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)).map(sorted),
        min_size=1,
        max_size=30,
    )
)
def test_the_shares_add_up_to_the_time_in_which_anybody_held(
    intervals: list[list[int]],
) -> None:
    occupancy = Occupancy()
    events = sorted(
        [(start, 1, i) for i, (start, _) in enumerate(intervals)]
        + [(end, 2, i) for i, (_, end) in enumerate(intervals)]
    )
    marks: dict[int, int] = {}
    shared = held = holders = last = 0
    for now, kind, i in events:
        held += now - last if holders else 0
        last = now
        if kind == 1:
            marks[i] = occupancy.enter(now)
            holders += 1
        else:
            shared += occupancy.leave(marks[i], now)
            holders -= 1
    assert 0 <= held - shared <= len(intervals)
