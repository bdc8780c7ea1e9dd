from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from dsfn.runtime.leases.sharing import Share, Sharing

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "take", "weigh", "pass"]),
        st.integers(0, 10**7),
        st.integers(0, 6),
    ),
    max_size=60,
)


def test_a_lone_holder_gets_all_of_the_time() -> None:
    sharing = Sharing()
    share = sharing.enter()
    sharing.advance(50)
    assert sharing.leave(share) == 50


def test_holders_without_weights_get_the_same() -> None:
    sharing = Sharing()
    first = sharing.enter()
    sharing.advance(10)
    second = sharing.enter()
    sharing.advance(20)
    assert sharing.leave(first) == 20
    sharing.advance(20)
    assert sharing.leave(second) == 30


def test_while_one_has_a_weight_those_without_get_nothing() -> None:
    sharing = Sharing()
    light, heavy, waiting = sharing.enter(), sharing.enter(), sharing.enter()
    sharing.weigh(light, 1)
    sharing.weigh(heavy, 3)
    sharing.advance(1000)
    assert (sharing.take(light), sharing.take(heavy), sharing.take(waiting)) == (250, 750, 0)


def test_when_all_with_a_weight_have_left_the_others_get_the_time() -> None:
    sharing = Sharing()
    weighed, waiting = sharing.enter(), sharing.enter()
    sharing.weigh(weighed, 7)
    sharing.advance(10)
    assert sharing.leave(weighed) == 10
    sharing.advance(5)
    assert sharing.leave(waiting) == 5


def test_time_that_is_shorter_than_there_are_holders_goes_to_all_of_them_in_the_end() -> None:
    sharing = Sharing()
    shares = [sharing.enter() for _ in range(64)]
    for _ in range(64):
        sharing.advance(3)
    assert [sharing.leave(share) for share in shares] == [3] * 64


@given(STEPS)
def test_what_is_taken_adds_up_to_the_time_and_is_everybodys_part(
    steps: list[tuple[str, int, int]],
) -> None:
    sharing = Sharing()
    holders: list[Share] = []
    exact: dict[Share, Fraction] = {}
    taken: dict[Share, int] = {}
    takes: dict[Share, int] = {}
    passed = 0
    for what, duration_us, number in [*steps, *[("leave", 1, 0)] * len(steps)]:
        if holders:
            passed += duration_us
            sharing.advance(duration_us)
            weights = [share.weight for share in holders]
            if not any(weights):
                weights = [1] * len(holders)
            for share, weight in zip(holders, weights, strict=True):
                exact[share] += Fraction(duration_us * weight, sum(weights))
        if what == "enter":
            share = sharing.enter()
            holders.append(share)
            exact[share], taken[share], takes[share] = Fraction(0), 0, 0
        elif holders and what != "pass":
            share = holders[number % len(holders)]
            if what == "weigh":
                sharing.weigh(share, number)
            else:
                takes[share] += 1
                taken[share] += sharing.take(share) if what == "take" else sharing.leave(share)
                if what == "leave":
                    holders.remove(share)
    assert sum(taken.values()) == passed
    for share, us in taken.items():
        assert abs(us - exact[share]) <= takes[share] + Fraction(1, 1000)
