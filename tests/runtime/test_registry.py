from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from revisions import event_type, make_revision

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import Conflict, InvalidInput, NotFound, StorageFull
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.registry import Registry

FIRST, SECOND, THIRD = make_revision(1), make_revision(2), make_revision(3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    connection = connect(path, "")
    yield Registry(connection, SystemClock())
    connection.close()


def reopened(path: Path) -> Registry:
    """What the next node on this directory sees."""
    return Registry(connect(path, ""), SystemClock())


def test_a_registered_revision_gets_all_calls_and_survives_a_restart(
    registry: Registry, path: Path
) -> None:
    registry.register(FIRST)
    for seen in (registry, reopened(path)):
        assert seen.route("echo") == FIRST
        assert seen.revision(FIRST.id) == FIRST
        assert seen.serving() == frozenset((FIRST.id,))
        assert [record.name for record in seen.functions()] == ["echo"]
        assert seen.function("echo").current == FIRST


def test_what_is_unknown_is_not_found_and_named(registry: Registry) -> None:
    with pytest.raises(NotFound, match="no function 'nope'") as caught:
        registry.route("nope")
    assert caught.value.fields == {"kind": "function", "name": "nope"}
    for ask in (registry.function, registry.history, registry.delete, registry.rollback):
        with pytest.raises(NotFound):
            ask("nope")
    registry.register(FIRST)
    with pytest.raises(NotFound) as caught:
        registry.rollback("echo", "echo-ffffffffff")
    assert caught.value.fields == {"kind": "revision", "name": "echo-ffffffffff"}
    assert registry.find("echo-ffffffffff") is None


def test_a_revision_of_another_function_cannot_be_rolled_back_to(registry: Registry) -> None:
    other = make_revision(1, "other")
    registry.register(FIRST, other)
    with pytest.raises(NotFound):
        registry.rollback("echo", other.id)
    with pytest.raises(NotFound):
        registry.set_traffic("echo", {other.id: 100})


def test_history_is_newest_first_with_the_share_of_each(registry: Registry) -> None:
    for revision in (FIRST, SECOND, THIRD):
        registry.register(revision)
    registry.set_traffic("echo", {FIRST.id: 30, THIRD.id: 70})
    history = [(entry.revision.id, entry.traffic_percent) for entry in registry.history("echo")]
    assert history == [(THIRD.id, 70), (SECOND.id, 0), (FIRST.id, 30)]


def test_rolling_back_goes_to_what_served_before_and_again_further_back(
    registry: Registry, path: Path
) -> None:
    for revision in (FIRST, SECOND, THIRD):
        registry.register(revision)
    assert registry.rollback("echo") == SECOND
    assert reopened(path).route("echo") == SECOND
    assert registry.rollback("echo") == FIRST
    with pytest.raises(Conflict, match="No revision of echo served before"):
        registry.rollback("echo")
    assert registry.route("echo") == FIRST


def test_rolling_back_to_a_named_revision_can_be_undone(registry: Registry) -> None:
    for revision in (FIRST, SECOND, THIRD):
        registry.register(revision)
    assert registry.rollback("echo", FIRST.id) == FIRST
    assert registry.rollback("echo") == THIRD


def test_deploying_what_serves_already_leaves_nothing_to_roll_back_to(registry: Registry) -> None:
    registry.register(FIRST)
    registry.register(FIRST)
    with pytest.raises(Conflict):
        registry.rollback("echo")


def test_deploying_an_old_revision_again_gives_it_the_calls(registry: Registry) -> None:
    for revision in (FIRST, SECOND, FIRST):
        registry.register(revision)
    assert registry.route("echo") == FIRST
    assert len(registry.history("echo")) == 2
    assert registry.rollback("echo") == SECOND


def test_rolling_back_ends_a_split(registry: Registry) -> None:
    registry.register(FIRST)
    registry.register(SECOND)
    registry.set_traffic("echo", {FIRST.id: 90, SECOND.id: 10})
    assert registry.rollback("echo") == FIRST
    assert registry.function("echo").traffic == {FIRST.id: 100}


@pytest.mark.parametrize(
    "percents",
    [
        {},
        {FIRST.id: 99},
        {FIRST.id: 60, SECOND.id: 60},
        {FIRST.id: 150, SECOND.id: -50},
        {FIRST.id: 50.0, SECOND.id: 50},
        {FIRST.id: "100"},
        {FIRST.id: True, SECOND.id: 99},
    ],
)
def test_shares_that_are_not_whole_percents_of_100_are_refused(
    registry: Registry, percents: dict[str, int]
) -> None:
    registry.register(FIRST)
    registry.register(SECOND)
    with pytest.raises(InvalidInput) as caught:
        registry.set_traffic("echo", percents)
    assert caught.value.fields["field"] == "traffic"
    assert registry.function("echo").traffic == {SECOND.id: 100}


@st.composite
def splits(draw: st.DrawFn) -> list[int]:
    """Whole percents that sum to 100, some of them 0."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=6)))
    return [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]


@settings(max_examples=50, deadline=None)
@given(shares=splits())
def test_a_hundred_calls_are_shared_exactly_as_the_traffic_says(shares: list[int]) -> None:
    connection = connect(Path(":memory:"), "")
    ticks = count()
    registry = Registry(connection, SystemClock(), pick=lambda n: next(ticks) % n)
    revisions = [make_revision(number) for number in range(len(shares))]
    registry.register(*revisions)
    expected = {r.id: share for r, share in zip(revisions, shares, strict=True) if share}
    assert registry.set_traffic("echo", dict(zip([r.id for r in revisions], shares, strict=True)))
    routed = Counter(registry.route("echo").id for _ in range(100))
    assert routed == expected
    assert registry.serving() == frozenset(expected)
    assert registry.function("echo").current.id in expected
    connection.close()


def test_a_split_survives_a_restart(registry: Registry, path: Path) -> None:
    registry.register(FIRST)
    registry.register(SECOND)
    registry.set_traffic("echo", {FIRST.id: 50, SECOND.id: 50})
    record = reopened(path).function("echo")
    assert record.traffic == {SECOND.id: 50, FIRST.id: 50}
    assert record.current == SECOND, "the newest of equals"


def test_triggers_follow_the_serving_revision_and_user_subscriptions_stay(
    registry: Registry, path: Path
) -> None:
    old = make_revision(1, triggers=(event_type("a"), event_type("b")))
    registry.register(old)
    own = registry.subscribe("echo", event_type("mine"))
    registry.register(make_revision(2, triggers=(event_type("c"),)))

    def filters(seen: Registry) -> set[tuple[str, str]]:
        return {(s.origin, s.filter.exact["type"]) for s in seen.subscriptions()}

    assert filters(registry) == {("user", "mine"), ("decorator", "c")}
    registry.rollback("echo")
    expected = {("user", "mine"), ("decorator", "a"), ("decorator", "b")}
    assert filters(registry) == filters(reopened(path)) == expected
    registry.unsubscribe(own.id)
    assert filters(registry) == {("decorator", "a"), ("decorator", "b")}


def test_subscribing_twice_is_one_subscription(registry: Registry) -> None:
    registry.register(FIRST)
    assert registry.subscribe("echo", event_type("a")) == registry.subscribe(
        "echo", event_type("a")
    )
    assert len(registry.subscriptions()) == 1


def test_what_the_source_declares_cannot_be_unsubscribed(registry: Registry) -> None:
    registry.register(make_revision(1, triggers=(event_type("a"),)))
    (declared,) = registry.subscriptions()
    with pytest.raises(Conflict, match="declared by @on"):
        registry.unsubscribe(declared.id)
    with pytest.raises(NotFound):
        registry.unsubscribe("sub-0")
    with pytest.raises(NotFound):
        registry.subscribe("nope", event_type("a"))


def test_deleting_a_function_takes_all_of_it_and_nothing_else(
    registry: Registry, path: Path
) -> None:
    registry.register(
        make_revision(1, "doomed", triggers=(event_type("a"),)), make_revision(1, "spared")
    )
    registry.subscribe("doomed", event_type("b"))
    kept = registry.subscribe("spared", event_type("b"))
    registry.delete("doomed")
    for seen in (registry, reopened(path)):
        assert [record.name for record in seen.functions()] == ["spared"]
        assert seen.subscriptions() == (kept,)
        assert seen.serving() == frozenset((make_revision(1, "spared").id,))
        assert seen.find(make_revision(1, "doomed").id) is None
    registry.register(make_revision(2, "doomed"))
    with pytest.raises(Conflict):
        registry.rollback("doomed")


def test_several_functions_become_live_together_or_not_at_all(
    registry: Registry, path: Path
) -> None:
    registry.register(FIRST)
    other = make_revision(5, "other")
    broken = make_revision(4, triggers=(event_type("a"), event_type("b")))
    object.__setattr__(broken, "entry", None)  # violates a constraint, after `other` was written
    with pytest.raises(apsw.ConstraintError):
        registry.register(other, broken)
    for seen in (registry, reopened(path)):
        assert [record.name for record in seen.functions()] == ["echo"]
        assert seen.route("echo") == FIRST


def test_a_full_disk_changes_nothing(path: Path) -> None:
    connection = connect(path, "")
    registry = Registry(connection, SystemClock())
    registry.register(FIRST)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = connection.execute("PRAGMA page_count").get
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFull):
        for number in range(2, 1000):
            registry.register(make_revision(number))
    serving = registry.route("echo")
    assert reopened(path).route("echo") == serving
    assert reopened(path).history("echo") == registry.history("echo")
