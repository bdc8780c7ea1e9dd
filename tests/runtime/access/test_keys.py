"""API keys: how they are made, kept, checked and taken back."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from event_node import ManualClock

from dsfn.billing.periods import DAY_US
from dsfn.billing.sqlite import connect
from dsfn.functions.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from dsfn.runtime.access import Access, Keys, NewKey, Scope
from dsfn.runtime.access import keys as keys_module

EVERYTHING = (Scope.INVOKE, Scope.READ)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = connect(tmp_path / "node.db", "")
    yield connection
    connection.close()


@pytest.fixture
def keys(database: apsw.Connection, clock: ManualClock) -> Keys:
    return Keys(database, clock)


def new(name: str = "ci", **more: Any) -> NewKey:
    values = {"tenant": "acme", "name": name, "scopes": EVERYTHING, **more}
    return NewKey(**values)


def test_a_key_says_who_has_it_and_what_for(keys: Keys) -> None:
    key, token = keys.create(new(functions=("echo",)))
    identity = keys.identify(token.encode())
    assert (identity.tenant, identity.key_id) == ("acme", key.id)
    assert identity.scopes == frozenset(EVERYTHING)
    assert identity.functions == frozenset({"echo"})
    prefix, id_, secret = token.split("_")
    assert (prefix, id_, len(bytes.fromhex(secret))) == ("dsfn", key.id, 32)


def test_no_two_keys_have_a_secret_in_common(keys: Keys) -> None:
    tokens = {keys.create(new())[1] for _ in range(100)}
    assert len({token.rpartition("_")[2] for token in tokens}) == 100


def test_what_is_kept_of_a_key_is_not_enough_to_use_it(
    keys: Keys, database: apsw.Connection, tmp_path: Path
) -> None:
    _, token = keys.create(new())
    secret = token.rpartition("_")[2]
    database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes(), file
    with sqlite3.connect(tmp_path / "node.db") as copy:
        (digest,) = copy.execute("SELECT digest FROM api_keys").fetchone()
    assert digest == hashlib.sha256(token.encode()).digest()
    with pytest.raises(Unauthenticated):
        keys.identify(digest.hex().encode())


def test_a_node_that_starts_again_knows_its_keys(
    keys: Keys, database: apsw.Connection, clock: ManualClock
) -> None:
    kept, token = keys.create(new())
    clock.advance(1)
    gone, revoked = keys.create(new("old"))
    keys.revoke(gone.id)
    again = Keys(database, clock)
    assert again.all() == keys.all()
    assert again.identify(token.encode()).key_id == kept.id
    with pytest.raises(Unauthenticated):
        again.identify(revoked.encode())


def test_a_key_that_is_revoked_or_has_expired_is_refused_as_one_that_never_was(
    keys: Keys, clock: ManualClock
) -> None:
    revoked, first = keys.create(new())
    _, second = keys.create(new(expires_at_us=clock.now_us() + 1_000_000))
    keys.identify(first.encode())
    keys.identify(second.encode())
    keys.revoke(revoked.id)
    clock.advance(1)
    unknown = f"dsfn_{'0' * 16}_{'0' * 64}"
    other = first[:-1] + ("0" if first[-1] != "0" else "1")
    sentences = set()
    for token in (first, second, unknown, other, "", "dsfn", "x" * 10_000, "ü"):
        with pytest.raises(Unauthenticated) as refused:
            keys.identify(token.encode())
        sentences.add((refused.value.message, tuple(refused.value.fields)))
    assert sentences == {("The API key is not valid.", ())}


def test_secrets_are_compared_in_constant_time_whether_the_key_is_there_or_not(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys_module, "compare_digest", compare)
    key, token = keys.create(new())
    keys.identify(token.encode())
    for wrong in (f"dsfn_{key.id}_{'0' * 64}", f"dsfn_{'0' * 16}_{'0' * 64}", "nonsense"):
        with pytest.raises(Unauthenticated):
            keys.identify(wrong.encode())
    assert compared == [(32, 32)] * 4


def test_the_day_of_the_last_use_is_kept_once_a_day(
    keys: Keys, database: apsw.Connection, clock: ManualClock
) -> None:
    key, token = keys.create(new())
    assert keys.get(key.id).last_used_day is None
    keys.identify(token.encode())
    written = database.total_changes()
    keys.identify(token.encode())
    assert database.total_changes() == written
    today = clock.now_us() // DAY_US
    assert keys.get(key.id).last_used_day == today
    clock.advance(86_400)
    keys.identify(token.encode())
    assert Keys(database, clock).get(key.id).last_used_day == today + 1


def test_a_key_can_be_revoked_again_and_only_if_it_is_there(keys: Keys) -> None:
    key, _ = keys.create(new())
    assert keys.revoke(key.id) == keys.revoke(key.id)
    with pytest.raises(NotFound):
        keys.revoke("0" * 16)


def test_of_too_many_keys_the_one_that_was_revoked_first_makes_room(
    database: apsw.Connection, clock: ManualClock
) -> None:
    keys = Keys(database, clock, max_keys=3)
    made = [keys.create(new(f"k{n}"))[0] for n in range(3)]
    with pytest.raises(Conflict):
        keys.create(new())
    for key in (made[1], made[0]):
        clock.advance(1)
        keys.revoke(key.id)
    keys.create(new("one more"))
    left = [key.name for key in Keys(database, clock).all()]
    assert sorted(left) == ["k0", "k2", "one more"]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": " acme"}, "tenant"),
        ({"tenant": "a" * 64}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"scopes": ()}, "scopes"),
        ({"functions": ("No Name",)}, "functions"),
        ({"functions": tuple(f"f{n}" for n in range(101))}, "functions"),
        ({"functions": ("echo",), "scopes": (Scope.INVOKE, Scope.ADMIN)}, "functions"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        new(**more)
    assert refused.value.fields["field"] == field


@pytest.mark.parametrize("required", [True, False])
def test_a_request_without_a_key_is_the_owners_where_none_is_needed(
    keys: Keys, required: bool
) -> None:
    access = Access(keys, "home", required)
    for header in (None, b"Basic dXNlcjpwYXNz"):
        if required:
            with pytest.raises(Unauthenticated):
                access.identify(header)
        else:
            identity = access.identify(header)
            assert (identity.tenant, identity.key_id, identity.is_admin) == ("home", "", True)


@pytest.mark.parametrize("required", [True, False])
def test_a_key_that_is_given_is_always_checked(keys: Keys, required: bool) -> None:
    access = Access(keys, "home", required)
    _, token = keys.create(new())
    assert access.identify(f"bearer  {token} ".encode()).tenant == "acme"
    assert access.identify(f"Bearer {access.local_key}".encode()).tenant == "home"
    with pytest.raises(Unauthenticated):
        access.identify(b"Bearer something")
    with pytest.raises(Unauthenticated):
        access.identify(f"Bearer {Access(keys, 'home', required).local_key}".encode())
