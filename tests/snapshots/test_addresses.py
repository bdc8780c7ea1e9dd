"""Where a store is, by the URL that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsfn.functions.errors import UsageError
from dsfn.snapshots.addresses import BucketAddress, read_bucket, read_store


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("s3://models", BucketAddress("models"), "s3://models"),
        ("s3://models/", BucketAddress("models"), "s3://models"),
        ("s3://a.b-1/p", BucketAddress("a.b-1", "p/"), "s3://a.b-1/p"),
        ("s3://1.2.3", BucketAddress("1.2.3"), "s3://1.2.3"),
        ("s3://1.2.3.4a", BucketAddress("1.2.3.4a"), "s3://1.2.3.4a"),
        ("s3://models/a b/C_d/", BucketAddress("models", "a b/C_d/"), "s3://models/a b/C_d"),
    ],
)
def test_a_part_of_a_bucket_is_read_and_shown(
    text: str, address: BucketAddress, shown: str
) -> None:
    assert read_bucket(text) == read_store(text) == address
    assert str(address) == shown
    assert read_bucket(f"{shown}/x") == address.below("x")


def test_a_directory_is_read_whatever_it_is_called() -> None:
    assert read_store("file:///mnt/a%20b#c?d") == Path("/mnt/a b#c?d")


@pytest.mark.parametrize(
    "text",
    ["", "s3:", "s3://", "s3:///p", "S3://models", "s3://192.168.1.1/p", "file:///a%00b"],
)
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="neither file:///DIRECTORY nor s3://BUCKET/PREFIX"):
        read_store(text)


@pytest.mark.parametrize("prefix", ["/", "a//b", "a/../b", "./a", "a?b", "a#b", "a\nb"])
def test_a_prefix_that_no_key_would_have_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match=r"whose prefix is not names of folders"):
        read_bucket(f"s3://models/{prefix}")
