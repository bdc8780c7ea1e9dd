from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.billing.periods import DAY_US
from dsfn.billing.splitting import at_boundaries, at_midnights, by_weight

weights = st.lists(st.integers(0, 10**9), min_size=1, max_size=30)


@given(st.integers(0, 2**48), weights)
def test_shares_add_up_and_are_less_than_one_from_what_is_exact(
    total: int, weights: list[int]
) -> None:
    parts = by_weight(total, weights)
    assert sum(parts) == total
    of = sum(weights)
    if of:
        assert all(
            abs(part * of - total * weight) < of
            for part, weight in zip(parts, weights, strict=True)
        )
    else:
        assert max(parts) - min(parts) <= 1


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    assert by_weight(100, [1, 1, 1]) == (34, 33, 33)
    assert by_weight(10, [5, 3, 1]) == (6, 3, 1)
    assert by_weight(10, [6, 3, 3]) == (5, 3, 2)
    assert by_weight(7, [0, 0]) == (4, 3)
    assert by_weight(0, [2, 3]) == (0, 0)


@pytest.mark.parametrize("weights", [[], [1, -1]])
def test_weights_that_make_no_sense_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        by_weight(1, weights)


@given(
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.lists(st.integers(0, 2000), unique=True).map(sorted),
)
def test_pieces_of_an_interval_follow_each_other_and_lie_between_boundaries(
    start_us: int, duration_us: int, boundaries: list[int]
) -> None:
    pieces = list(at_boundaries(start_us, duration_us, boundaries))
    position_us = start_us
    for at_us, length_us in pieces:
        assert at_us == position_us
        assert not any(at_us < each < at_us + length_us for each in boundaries)
        position_us += length_us
    assert position_us == start_us + duration_us
    assert all(length_us > 0 for _, length_us in pieces) or duration_us == 0
    assert pieces


def test_a_boundary_at_the_start_or_the_end_cuts_nothing() -> None:
    assert list(at_boundaries(10, 10, [9, 10, 15, 20, 21])) == [(10, 5), (15, 5)]
    assert list(at_boundaries(10, 0, [10])) == [(10, 0)]


def test_an_interval_is_cut_at_every_midnight() -> None:
    start_us = 20_000 * DAY_US - 5
    assert list(at_midnights(start_us, DAY_US + 8)) == [
        (start_us, 5),
        (start_us + 5, DAY_US),
        (start_us + 5 + DAY_US, 3),
    ]
    assert list(at_midnights(start_us, 5)) == [(start_us, 5)]
    assert list(at_midnights(start_us + 5, DAY_US)) == [(start_us + 5, DAY_US)]
