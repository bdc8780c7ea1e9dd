"""docs/ledger-format.md is enough to check a ledger: here somebody does who has nothing else."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections import Counter
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_makers import holdings, lists_of_calls

from dsfn.billing.canonical import FIRST_HASH, canonical, row_hash
from dsfn.billing.chain import Head, Links
from dsfn.billing.entry import COLUMNS, Entry, entries_of
from dsfn.billing.rollups import Totals
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage

PAGE = (Path(__file__).parents[2] / "docs" / "ledger-format.md").read_text(encoding="utf-8")
INTEGERS = (
    "chain", "seq", "devices", "started_at_us", "busy_us", "held_us", "restore_us", "amount",
)  # fmt: skip
TEXTS = (
    "kind", "tenant", "source", "id", "key_id", "caller", "function", "revision", "workflow",
    "run", "step", "device", "device_class", "lease", "debit", "credit", "commodity", "status",
    "error", "idempotency_key", "reverses", "period",
)  # fmt: skip


def bytes_of(row: Any) -> bytes:
    """The canonical bytes, by the page alone."""
    parts = [b"\x01"]
    parts += [struct.pack(">q", row[name]) for name in INTEGERS]
    for name in TEXTS:
        text = row[name].encode()
        parts += [struct.pack(">I", len(text)), text]
    return b"".join(parts)


def check(path: Path) -> int:
    """Checks a ledger with Python's own SQLite; the number of its rows."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        before, hashes, balances = bytes(32), {0: bytes(32)}, Counter[tuple[str, str]]()
        for seq, row in enumerate(connection.execute("SELECT * FROM entries ORDER BY seq"), 1):
            assert row["seq"] == seq
            before = sha256(before + bytes_of(row)).digest()
            assert row["hash"] == before
            hashes[seq] = before
            balances[row["debit"], row["commodity"]] += row["amount"]
            balances[row["credit"], row["commodity"]] -= row["amount"]
        for row in connection.execute("SELECT * FROM accounts"):
            assert balances.pop((row["account"], row["commodity"])) == row["balance"]
            if row["closed"]:
                assert row["balance"] == 0
        assert not balances
        signed_before = bytes(32)
        for row in connection.execute("SELECT * FROM checkpoints ORDER BY number"):
            signed_before = _check_checkpoint(json.loads(row["document"]), signed_before, hashes)
        return len(hashes) - 1


def _check_checkpoint(document: Any, before: bytes, hashes: dict[int, bytes]) -> bytes:
    assert document["previous"] == before.hex()
    content = b"dsfn ledger checkpoint\0\x01"
    content += struct.pack(">qq", document["number"], document["at_us"]) + before
    content += struct.pack(">I", len(document["heads"]))
    for head in document["heads"]:
        digest = bytes.fromhex(head["hash"])
        assert hashes[head["seq"]] == digest
        content += struct.pack(">qq", head["chain"], head["seq"]) + digest
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(document["public_key"]))
    key.verify(bytes.fromhex(document["signature"]), content)
    return sha256(content).digest()


@settings(max_examples=20, deadline=None)
@given(calls=lists_of_calls(), holding=holdings("l"))
def test_a_ledger_can_be_checked_by_what_the_page_says(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Usage], holding: Any
) -> None:
    place = tmp_path_factory.mktemp("ledger")
    key = SigningKey.open(place / "key.pem")
    with closing(SqliteLedger(place / "ledger.db")) as ledger:
        for rows in (calls, holding.rows):
            ledger.post(rows)
            ledger.checkpoint(key, 1_790_000_000_000_000)
    restores = sum(1 for c in calls if c.restore_us and c.status != "rejected")
    assert check(place / "ledger.db") == len(calls) + restores + len(holding.rows)


def test_the_example_of_the_page_is_right() -> None:
    example = PAGE.split("has the canonical bytes")[1].split("and the hash")[0]
    usage = Usage(
        "i-1", "acme", "", "echo", "echo-0123456789", "cpu", 1_790_000_000_000_000, 100, 200, 0,
        "succeeded", device="cpu", lease="l-1",
    )  # fmt: skip
    (entry,) = entries_of(usage, 0)
    found = canonical(0, 1, entry)
    assert found == bytes.fromhex("".join(example.split()))
    named = dict(zip(COLUMNS, entry, strict=True)) | {"chain": 0, "seq": 1}
    assert bytes_of(named) == found
    (digest,) = re.findall(r"and the hash `([0-9a-f]{64})`", PAGE)
    assert row_hash(FIRST_HASH, 0, 1, entry).hex() == digest


@settings(deadline=None)
@given(
    rows=st.lists(
        st.builds(
            lambda integers, texts: Entry._make((1, *integers, *texts)),
            st.tuples(*[st.integers(0, 2**40)] * 5),
            # Few of them, so that rows have some in common.
            st.tuples(*[st.sampled_from(("", "a", "aé\U0001f600"))] * len(TEXTS)),
        ),
        max_size=8,
    )
)
def test_rows_of_a_chain_have_the_bytes_of_the_page_and_add_up_as_one_by_one(
    rows: list[Entry],
) -> None:
    # Each is there twice, the second time beside one that is alike.
    entries = [*rows, *rows]
    links, before = Links(3, Head(7, bytes(32))), bytes(32)
    for number, (seq, entry, texts, digest) in enumerate(links.follow(entries)):
        assert (seq, entry) == (8 + number, entries[number])
        named = dict(zip(COLUMNS, entry, strict=True)) | {"chain": 3, "seq": seq}
        found = bytes_of(named)
        assert found == canonical(3, seq, entry)
        assert found.endswith(texts)
        before = sha256(before + found).digest()
        assert digest == before
    assert links.head == Head(7 + len(entries), before)
    expected = Totals()
    expected.add(entries)
    assert links.totals() == expected


def test_no_two_rows_have_the_same_bytes_however_their_texts_are_divided() -> None:
    empty = Entry._make([1, 0, 0, 0, 0, 0, *[""] * (len(COLUMNS) - 6)])
    ones = [empty._replace(tenant="ab"), empty._replace(tenant="a", source="b")]
    ones += [empty._replace(id="ab"), empty._replace(source="ab"), empty._replace(devices=2)]
    assert len({canonical(0, 1, each) for each in ones} | {canonical(1, 0, empty)}) == 6
