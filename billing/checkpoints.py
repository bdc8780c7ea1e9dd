"""Checkpoints: what a ledger's chains had come to at a moment, signed, to be kept elsewhere, too.

Whoever can write the database can also make hashes anew. What was signed and is kept where that
one cannot write says what the hashes were. The format is described in docs/ledger-format.md.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from hashlib import sha256
from typing import Any

from dsfn.billing.chain import Head
from dsfn.billing.signatures import is_signed
from dsfn.billing.signing import FILE_NAME, SigningKey
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

VERSION = 1
# Of one that names the next key.
ROTATING_VERSION = 2
FIRST_PREVIOUS = bytes(32)
MAX_DOCUMENT_BYTES = 65_536
MAX_CHAINS = 64
_MAX_NUMBER = 2**63 - 1
# What else the key signs can never be taken for this.
_MARK = b"dsfn ledger checkpoint\0"
# The last row of each chain that has rows, by the numbers of the chains.
Heads = tuple[tuple[int, Head], ...]
_HEAD = struct.Struct(">Bqq32sI")
_CHAIN = struct.Struct(">qq32s")
_DIGEST, _KEY, _SIGNATURE = "[0-9a-f]{64}", "[0-9a-f]{64}", "[0-9a-f]{128}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The last row of each chain, by their numbers.

    `number`: from 1 on. `at_us`: when, UTC microseconds since the epoch. `previous`: the SHA-256
    of what the checkpoint before it signed. `public_key` and `signature` are in hex, and so is
    `next_key`, in the last one of a key: that of all that follow.
    """

    number: int
    at_us: int
    previous: bytes
    heads: Heads
    public_key: str = ""
    signature: str = ""
    next_key: str = ""

    @property
    def version(self) -> int:
        """Of the format."""
        return ROTATING_VERSION if self.next_key else VERSION

    def content(self) -> bytes:
        """The bytes that are signed."""
        chains = b"".join(_CHAIN.pack(chain, head.seq, head.hash) for chain, head in self.heads)
        start = _HEAD.pack(self.version, self.number, self.at_us, self.previous, len(self.heads))
        # Nobody else can put a signature of another key under the same content.
        keys = bytes.fromhex(self.public_key + self.next_key) if self.next_key else b""
        return _MARK + start + chains + keys

    def digest(self) -> bytes:
        """The SHA-256 of what is signed, which the next checkpoint names."""
        return sha256(self.content()).digest()

    def is_signed(self) -> bool:
        """Whether the signature is one of the key that is named."""
        return is_signed(self.content(), self.signature, self.public_key)

    def to_text(self) -> str:
        """This checkpoint as it is kept, in the database and elsewhere: one line of JSON."""
        document = {
            "version": self.version,
            "number": self.number,
            "at_us": self.at_us,
            "previous": self.previous.hex(),
            "heads": [
                {"chain": chain, "seq": head.seq, "hash": head.hash.hex()}
                for chain, head in self.heads
            ],
            "public_key": self.public_key,
            **({"next_key": self.next_key} if self.next_key else {}),
            "signature": self.signature,
        }
        return json.dumps(document, separators=(",", ":"))


def following(
    key: SigningKey, before: Checkpoint | None, heads: Heads, now_us: int, next_key: str = ""
) -> Checkpoint:
    """The checkpoint that follows another, signed; with a `next_key` the last one of its key.

    Raises `UsageError` when another key signed that one: without it, nobody could tell later
    whether the one before was the ledger's own.
    """
    require_key(key, before)
    number, previous = 1, FIRST_PREVIOUS
    if before is not None:
        number, previous = before.number + 1, before.digest()
    unsigned = Checkpoint(number, now_us, previous, heads, key.public_key, next_key=next_key)
    return replace(unsigned, signature=key.sign(unsigned.content()).hex())


def require_key(key: SigningKey, last: Checkpoint | None) -> None:
    """Raises `UsageError` for a key that may not sign after this checkpoint."""
    if last is not None and (last.next_key or last.public_key) != key.public_key:
        raise UsageError(
            f"{FILE_NAME} is not the key that signed the checkpoints of this ledger: put that"
            " one back. If `dsfn ledger rotate-key` was stopped, run it again."
        )


def read_checkpoint(text: str) -> Checkpoint:
    """Reads back what `to_text` gave. Raises `ValueError` for what is none."""
    try:
        document: Any = json.loads(text)
        if (
            document["version"] not in (VERSION, ROTATING_VERSION)
            or len(document["heads"]) > MAX_CHAINS
        ):
            raise ValueError("not a version that is known, or too many chains")
        checkpoint = Checkpoint(
            _integer(document["number"]),
            _integer(document["at_us"]),
            bytes.fromhex(_text(_DIGEST, document["previous"])),
            tuple(_read_head(head) for head in document["heads"]),
            _text(_KEY, document["public_key"]),
            _text(_SIGNATURE, document["signature"]),
            _text(_KEY, document["next_key"]) if document["version"] == ROTATING_VERSION else "",
        )
    except (KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError("not a checkpoint") from error
    if checkpoint.to_text() != text:
        raise ValueError("not written as a checkpoint is")
    return checkpoint


def _read_head(head: Any) -> tuple[int, Head]:
    digest = bytes.fromhex(_text(_DIGEST, head["hash"]))
    return _integer(head["chain"]), Head(_integer(head["seq"]), digest)


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise ValueError(f"{value!r} is not a number")
    return value


def _text(pattern: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{value!r} is not what it should be")
    return value
