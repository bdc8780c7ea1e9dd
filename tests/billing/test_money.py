from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsfn.billing.money import apportioned, atto_per_minor, half_even, minor_text


@given(st.integers(-(10**60), 10**60), st.integers(1, 10**20))
@example(5, 10)
@example(15, 10)
@example(-5, 10)
@example(-15, 10)
@example(25, 10)
def test_rounding_agrees_with_decimal(amount: int, unit: int) -> None:
    with localcontext() as context:
        context.prec = 200
        exact = Decimal(amount) / Decimal(unit)
        assert half_even(amount, unit) == int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


@given(st.integers(0, 10**27), st.integers(0, 9))
def test_a_minor_amount_reads_as_its_decimal(amount: int, exponent: int) -> None:
    text = minor_text(amount, exponent)
    assert Decimal(text).scaleb(exponent) == amount
    assert len(text.partition(".")[2]) == exponent
    assert minor_text(-amount, exponent) == ("-" + text if amount else text)


def test_an_amount_has_no_sign_at_zero_and_one_digit_at_least_before_the_point() -> None:
    assert [minor_text(each, 2) for each in (0, 5, -5, 1234)] == ["0.00", "0.05", "-0.05", "12.34"]
    assert [minor_text(each, 0) for each in (0, 5, -5)] == ["0", "5", "-5"]


@pytest.mark.parametrize(("exponent", "atto"), [(0, 10**18), (2, 10**16), (9, 10**9)])
def test_a_minor_unit_is_so_many_atto(exponent: int, atto: int) -> None:
    assert atto_per_minor(exponent) == atto


@given(st.lists(st.integers(-(10**24), 10**24), max_size=20), st.integers(1, 10**18))
def test_apportioned_amounts_add_up_and_are_less_than_a_unit_off(
    amounts: list[int], unit: int
) -> None:
    parts = apportioned(amounts, unit)
    assert sum(parts) == half_even(sum(amounts), unit)
    assert all(
        abs(part * unit - amount) < unit for part, amount in zip(parts, amounts, strict=True)
    )


def test_of_equal_remainders_the_earlier_gets_the_unit() -> None:
    assert apportioned([5, 5, 5, 5], 10) == (1, 1, 0, 0)
    assert apportioned([10, -10, 20], 10) == (1, -1, 2)
    assert apportioned([], 10) == ()
