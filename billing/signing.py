"""The key that a ledger signs with: Ed25519 (RFC 8032), in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.billing.durable import write_whole
from dsfn.functions.errors import StorageFull, UsageError
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE_NAME = "ledger-key.pem"
_MAX_KEY_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. `public_key`: its public half, 32 bytes in hex."""

    public_key: str
    _private: Ed25519PrivateKey

    @classmethod
    def open(cls, path: Path) -> SigningKey:
        """The key in a file (PKCS #8, PEM), made the first time, for its owner alone to read.

        Raises `UsageError` for a file that is no such key, `StorageFull`.
        """
        try:
            if not path.exists():
                write_whole(path, new_pem(), durably=True)
            return cls._read(path)
        except OSError as error:
            if error.errno == 28:
                raise StorageFull(f"There is no room left on the disk to write {path}.") from error
            raise UsageError(f"{path} cannot be used: {error.strerror}.") from error

    @classmethod
    def _read(cls, path: Path) -> SigningKey:
        with path.open("rb") as file:
            return cls.of_pem(file.read(_MAX_KEY_BYTES), str(path))

    @classmethod
    def of_pem(cls, pem: bytes, name: str) -> SigningKey:
        """The key in some PEM (PKCS #8), which is called so. Raises `UsageError` for what is no
        such key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name} is not a private key in PEM.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"{name} is not an Ed25519 key.")
        return cls(key.public_key().public_bytes_raw().hex(), key)

    def sign(self, content: bytes) -> bytes:
        """The signature of some bytes, 64 bytes."""
        return self._private.sign(content)


def new_pem() -> bytes:
    """A new private key (PKCS #8, PEM)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
