"""Signatures of documents: Ed25519 (RFC 8032)."""

from __future__ import annotations


def is_signed(content: bytes, signature: str, public_key: str) -> bool:
    """Whether a signature, in hex, is one of the key whose public half is given, in hex."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
