"""Checkpoints are held against each other, against copies of them and against rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dsfn.billing.chain import Head
from dsfn.billing.checkpoint_check import CheckpointCheck, read_copies
from dsfn.billing.checkpoints import Checkpoint, following
from dsfn.billing.evidence import MAX_COMPARED, NO_EVIDENCE, Evidence
from dsfn.billing.signing import SigningKey
from dsfn.billing.succession import terms_of
from dsfn.functions.errors import StoreUnavailable, UsageError

LAST = {0: 30, 2: 30}
Kept = list[tuple[int, str]]
Copies = dict[int, dict[str, str]]


def hash_of(chain: int, seq: int) -> bytes | None:
    """The hash of a row of two chains that have 30 rows each."""
    return bytes([chain, seq]) * 16 if 1 <= seq <= LAST.get(chain, 0) else None


def head(chain: int, seq: int) -> tuple[int, Head]:
    return chain, Head(seq, bytes([chain, seq]) * 16)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.open(tmp_path_factory.mktemp("key") / "key.pem")


@pytest.fixture(scope="module")
def signed(key: SigningKey) -> list[Checkpoint]:
    """Checkpoints of rows 10, 20 and 30; the first is of one chain."""
    first = following(key, None, (head(0, 10), (2, Head())), 1)
    second = following(key, first, (head(0, 20), head(2, 20)), 2)
    return [first, second, following(key, second, (head(0, 30), head(2, 30)), 3)]


@pytest.fixture
def kept(signed: list[Checkpoint]) -> Kept:
    return [(each.number, each.to_text()) for each in signed]


def problems(
    kept: Kept, copies: Copies | None = None, evidence: Evidence = NO_EVIDENCE
) -> list[tuple[int | None, str, str]]:
    checking = CheckpointCheck(terms_of(kept, evidence.public_keys), LAST, hash_of)
    checking.look_at(kept, copies or {})
    assert checking.count == len(kept)
    return [(each.row, each.kind, each.detail) for each in checking.problems]


def details(found: list[tuple[int | None, str, str]]) -> list[str]:
    assert all(row is None and kind in ("checkpoint", "signature") for row, kind, _ in found)
    return [detail for _, _, detail in found]


def test_checkpoints_that_follow_each_other_and_the_rows_are_right(
    kept: Kept, key: SigningKey
) -> None:
    assert problems(kept) == []
    assert problems(kept, evidence=Evidence(frozenset({key.public_key}))) == []
    assert problems([]) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_checkpoint_that_is_missing_is_the_only_one_that_is_named(
    kept: Kept, number: int
) -> None:
    found = details(problems([each for each in kept if each[0] != number]))
    assert found == [f"Checkpoint {number} is missing."]


def test_rows_that_are_not_what_was_signed_are_named_once_in_each_chain(
    signed: list[Checkpoint], key: SigningKey
) -> None:
    other = following(key, signed[0], ((0, Head(20, bytes(32))), head(2, 20)), 2)
    last = following(key, other, (head(0, 30), (2, Head(30, bytes(32)))), 3)
    found = problems([(each.number, each.to_text()) for each in (signed[0], other, last)])
    assert [(row, kind) for row, kind, _ in found] == [(20, "checkpoint"), (30, "checkpoint")]
    assert found[0][2].startswith("Row 20 is not the one that checkpoint 2 was signed for")
    assert found[1][2].startswith("Row 30 of chain 2 is not the one that checkpoint 3")


def test_rows_that_were_cut_off_are_named_by_the_first_checkpoint_that_knew_them(
    signed: list[Checkpoint], key: SigningKey
) -> None:
    fourth = following(key, signed[2], (head(0, 33), head(2, 31), head(7, 1)), 4)
    fifth = following(key, fourth, (head(0, 40), head(2, 40)), 5)
    found = problems([(each.number, each.to_text()) for each in (*signed, fourth, fifth)])
    said = "checkpoint 4 was signed when they were there."
    assert found == [
        (31, "cut off", f"Rows 31 to 33 are missing: {said}"),
        (31, "cut off", f"Rows 31 to 31 of chain 2 are missing: {said}"),
        (1, "cut off", f"Rows 1 to 1 of chain 7 are missing: {said}"),
    ]


def test_a_checkpoint_that_names_another_before_it_does_not_follow(
    signed: list[Checkpoint], key: SigningKey
) -> None:
    alone = following(key, replace(signed[0], at_us=7), signed[1].heads, 2)
    found = details(problems([(1, signed[0].to_text()), (2, alone.to_text())]))
    assert found == ["Checkpoint 2 does not follow the one before."]


def test_a_checkpoint_under_another_number_than_its_own_is_named(kept: Kept) -> None:
    found = details(problems([kept[0], (2, kept[0][1])]))
    assert found == ["Checkpoint 2 does not follow the one before."]


def test_a_wrong_signature_is_named_and_one_of_another_key_if_keys_are_known(
    signed: list[Checkpoint], key: SigningKey, tmp_path: Path
) -> None:
    other = SigningKey.open(tmp_path / "other.pem")
    forged = replace(signed[0], signature=signed[1].signature)
    assert details(problems([(1, forged.to_text())])) == ["The signature of checkpoint 1 is wrong."]
    trusted = Evidence(frozenset({key.public_key}))
    found = problems([(1, forged.to_text())], evidence=trusted)
    assert found == [(None, "signature", "The signature of checkpoint 1 is wrong.")]
    theirs = following(other, None, (head(0, 10),), 1)
    assert problems([(1, theirs.to_text())]) == []
    found = problems([(1, theirs.to_text())], evidence=trusted)
    assert found == [(None, "signature", "Checkpoint 1 is signed with another key.")]


def test_a_checkpoint_that_cannot_be_read_is_named_and_the_next_is_held_against_rows(
    kept: Kept,
) -> None:
    found = details(problems([kept[0], (2, "{}"), kept[2]]))
    assert found == ["Checkpoint 2 cannot be read."]


def test_copies_are_the_same_as_here(kept: Kept) -> None:
    copies = {number: {"safe": text, "shelf": text} for number, text in kept}
    assert problems(kept, copies) == []
    copies = {1: {"safe": kept[0][1], "shelf": kept[1][1]}, 2: {"safe": "x"}}
    assert details(problems(kept, copies)) == [
        "Checkpoint 1 in shelf is another than here.",
        "Checkpoint 2 in safe is another than here.",
    ]


def test_copies_of_checkpoints_that_are_no_longer_here_are_held_against_rows(
    signed: list[Checkpoint], kept: Kept, key: SigningKey
) -> None:
    fourth = following(key, signed[2], (head(0, 32),), 4)
    copies = {
        4: {"safe": fourth.to_text(), "shelf": "x"},
        3: {"safe": kept[2][1]},
        1: {"safe": kept[0][1]},
    }
    assert problems(kept[:2], copies) == [
        (None, "checkpoint", "Checkpoint 3 is in safe and not here."),
        (None, "checkpoint", "Checkpoint 4 is in safe, shelf and not here."),
        (
            31,
            "cut off",
            "Rows 31 to 32 are missing: checkpoint 4 was signed when they were there.",
        ),
    ]


class _Place:
    """A place with a copy of one checkpoint, or one that is away."""

    def __init__(self, name: str, away: bool = False) -> None:
        self.name, self.away = name, away
        self.asked: list[tuple[int, int]] = []

    def put(self, number: int, text: str) -> None:
        raise AssertionError("a check writes nothing")

    def since(self, number: int, limit: int) -> Sequence[tuple[int, str]]:
        self.asked.append((number, limit))
        if self.away:
            raise StoreUnavailable("It is away.")
        return [(number, self.name)]


def test_the_newest_copies_of_every_place_are_read_whichever_is_away() -> None:
    safe, away, shelf = _Place("safe"), _Place("attic", away=True), _Place("shelf")
    copies, found = read_copies(Evidence(places=(safe, away, shelf)), MAX_COMPARED + 7)
    assert copies == {7: {"safe": "safe", "shelf": "shelf"}}
    assert [(each.row, each.kind, each.detail) for each in found] == [
        (None, "unreachable", "The checkpoints in attic could not be read: It is away."),
    ]
    assert safe.asked == [(7, 2 * MAX_COMPARED)]
    read_copies(Evidence(places=(shelf,)), 3)
    assert shelf.asked[-1][0] == 1


@pytest.fixture(scope="module")
def next_key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.open(tmp_path_factory.mktemp("next") / "key.pem")


def rotated(signed: list[Checkpoint], key: SigningKey, next_key: SigningKey) -> list[Checkpoint]:
    """Checkpoints of which the fourth names another key, and the fifth follows it."""
    fourth = following(key, signed[-1], signed[-1].heads, 4, next_key.public_key)
    return [*signed, fourth, following(next_key, fourth, fourth.heads, 5)]


def texts(checkpoints: Sequence[Checkpoint]) -> Kept:
    return [(each.number, each.to_text()) for each in checkpoints]


def test_a_key_vouches_for_the_one_before_it_and_is_named_by_it(
    signed: list[Checkpoint], key: SigningKey, next_key: SigningKey
) -> None:
    trusted = Evidence(frozenset({next_key.public_key}))
    kept = texts(rotated(signed, key, next_key))
    assert problems(kept, evidence=trusted) == []
    assert terms_of(kept, [next_key.public_key])[key.public_key].last_number == 4


def test_a_key_that_was_given_up_signs_nothing_any_more(
    signed: list[Checkpoint], key: SigningKey, next_key: SigningKey
) -> None:
    *_, last = checkpoints = rotated(signed, key, next_key)
    with pytest.raises(UsageError, match="not the key that signed"):
        following(key, last, last.heads, 6)
    unsigned = replace(last, number=6, previous=last.digest(), public_key=key.public_key)
    late = replace(unsigned, signature=key.sign(unsigned.content()).hex())
    found = problems(
        texts([*checkpoints, late]), evidence=Evidence(frozenset({next_key.public_key}))
    )
    assert details(found) == ["Checkpoint 6 is signed with another key."]


@pytest.mark.parametrize("forged", ["the next one is missing", "another key", "another content"])
def test_nobody_makes_a_key_of_their_own_one_that_came_before(
    signed: list[Checkpoint], key: SigningKey, next_key: SigningKey, tmp_path: Path, forged: str
) -> None:
    mine = SigningKey.open(tmp_path / "mine.pem")
    *_, fourth, fifth = rotated(signed, key, next_key)
    unsigned = replace(fourth, public_key=mine.public_key)
    if forged == "another content":
        unsigned = replace(unsigned, heads=())
    forgery = replace(unsigned, signature=mine.sign(unsigned.content()).hex())
    last = [] if forged == "the next one is missing" else [fifth]
    terms = terms_of(texts([*signed, forgery, *last]), [next_key.public_key])
    assert set(terms) == {next_key.public_key}
