"""Dividing whole numbers so that nothing is lost: by weight, intervals at boundaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dsfn.billing.periods import DAY_US


def by_weight(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divides `total` in proportion to `weights`, by largest remainder; the parts add up to it.

    Of equal remainders the earlier gets more. With weights that are all 0 the parts are as
    equal as can be. Raises `ValueError` for no weights, and for one below 0.
    """
    if not weights or min(weights) < 0:
        raise ValueError("there must be weights, and none below 0")
    sum_of_weights = sum(weights)
    if sum_of_weights == 0:
        return by_weight(total, [1] * len(weights))
    parts = [total * weight // sum_of_weights for weight in weights]
    remainders = [total * weight % sum_of_weights for weight in weights]
    largest = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for index in largest[: total - sum(parts)]:
        parts[index] += 1
    return tuple(parts)


def at_boundaries(
    start_us: int, duration_us: int, boundaries_us: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """An interval cut at those boundaries (ascending) that lie within, as (start, duration).

    One without duration is one piece.
    """
    position_us, end_us = start_us, start_us + duration_us
    for boundary_us in boundaries_us:
        if position_us < boundary_us < end_us:
            yield position_us, boundary_us - position_us
            position_us = boundary_us
    yield position_us, end_us - position_us


def at_midnights(start_us: int, duration_us: int) -> Iterator[tuple[int, int]]:
    """An interval cut at midnight UTC, as `at_boundaries` does."""
    first_us = (start_us // DAY_US + 1) * DAY_US
    return at_boundaries(start_us, duration_us, range(first_us, start_us + duration_us, DAY_US))
