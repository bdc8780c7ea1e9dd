"""Where stores are, as people write it: a part of a bucket, or a directory."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

_S3, _FILE = "s3://", "file:///"
# Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_IP_ADDRESS = r"[0-9]+(\.[0-9]+){3}"
_BUCKET = re.compile(rf"(?!.*\.\.)(?!{_IP_ADDRESS}$)[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]")
_BUCKET_RULE = (
    "whose bucket has 3 to 63 small letters, digits, dots and hyphens, and is no IP address"
)
# A URL has something else behind these, which no key would have.
_ENDS = frozenset("?#")


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A part of an S3 bucket: of the objects whose keys begin with `prefix`, "" or
    "some/prefix/"."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        """As a URL, which has no "/" at its end."""
        return f"{_S3}{self.bucket}/{self.prefix}".rstrip("/")

    def below(self, folder: str) -> BucketAddress:
        """A folder of it."""
        return BucketAddress(self.bucket, f"{self.prefix}{folder}/")


def read_bucket(text: str, name: str = "The store") -> BucketAddress:
    """What "s3://BUCKET" or "s3://BUCKET/PREFIX" stands for; `name`: what is to be one. Raises
    `UsageError`."""
    if (address := _bucket(text, name)) is None:
        raise UsageError(f"{name} is {text!r}, and not s3://BUCKET/PREFIX {_BUCKET_RULE}.")
    return address


def read_store(text: str, name: str = "The store") -> BucketAddress | Path:
    """The same, or the directory that "file:///DIRECTORY" stands for. Raises `UsageError`."""
    path = unquote(text.removeprefix("file://"))
    if text.startswith(_FILE) and text != _FILE and path.isprintable():
        return Path(path)
    if (address := _bucket(text, name)) is None:
        raise UsageError(
            f"{name} is {text!r}, and neither file:///DIRECTORY nor s3://BUCKET/PREFIX"
            f" {_BUCKET_RULE}."
        )
    return address


def _bucket(text: str, name: str) -> BucketAddress | None:
    """None where no bucket is named. Raises `UsageError` for its prefix."""
    bucket, _, prefix = text.removeprefix(_S3).partition("/")
    if not text.startswith(_S3) or _BUCKET.fullmatch(bucket) is None:
        return None
    folders = prefix.removesuffix("/").split("/") if prefix else []
    if not all(map(_is_folder, folders)):
        raise UsageError(
            f"{name} is {text!r}, whose prefix is not names of folders with / between them."
        )
    return BucketAddress(bucket, "".join(f"{folder}/" for folder in folders))


def _is_folder(name: str) -> bool:
    return name not in ("", ".", "..") and name.isprintable() and not _ENDS & set(name)
