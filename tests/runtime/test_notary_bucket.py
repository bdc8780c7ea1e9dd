"""Checkpoints of the ledger in a bucket, which locks them where it can."""

from __future__ import annotations

from typing import Any

import pytest
from s3_server import S3Server

from dsfn.functions.errors import StoreUnavailable
from dsfn.runtime.notary.places import BucketPlace, name_of, open_place
from dsfn.runtime.notary.settings import PlaceSettings

pytestmark = pytest.mark.usefixtures("credentials")


def place_in(s3: S3Server, bucket: str) -> BucketPlace:
    place = open_place(PlaceSettings(f"s3://{bucket}/books", s3.url, "us-east-1"))
    assert isinstance(place, BucketPlace)
    return place


def client_of(s3: S3Server) -> Any:
    boto3 = pytest.importorskip("boto3")
    return boto3.client("s3", endpoint_url=s3.url, region_name="us-east-1")


def test_checkpoints_are_kept_in_a_bucket_and_never_written_over(s3: S3Server) -> None:
    bucket = s3.make_bucket()
    place = place_in(s3, bucket)
    for number in (1, 2, 12):
        place.put(number, f"text {number}")
    place.put(2, "another text")
    assert list(place.since(0, 10)) == [(1, "text 1"), (2, "text 2"), (12, "text 12")]
    assert list(place.since(2, 1)) == [(2, "text 2")]
    assert list(place.since(13, 10)) == []
    assert f"books/{name_of(12)}" in s3.files(bucket)


def test_where_the_bucket_locks_objects_nobody_can_delete_a_checkpoint(s3: S3Server) -> None:
    client = client_of(s3)
    bucket = s3.make_bucket()
    try:
        client.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )
    except client.exceptions.ClientError as error:
        pytest.skip(f"this server locks no objects: {error}")
    place = place_in(s3, bucket)
    place.put(1, "text 1")
    key = f"books/{name_of(1)}"
    retention = client.get_object_retention(Bucket=bucket, Key=key)["Retention"]
    assert retention["Mode"] == "COMPLIANCE"
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=key)
    assert list(place.since(0, 10)) == [(1, "text 1")]


def test_a_bucket_that_is_not_there_is_said_to_be(s3: S3Server) -> None:
    with pytest.raises(StoreUnavailable, match="it has no bucket 'no-such-bucket'"):
        place_in(s3, "no-such-bucket").put(1, "text")
