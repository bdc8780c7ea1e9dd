"""A pod asks an S3 server itself, with signatures that servers take, before it asks boto3."""

from __future__ import annotations

import io
import time

import pytest
from live_pod import TestStore
from s3_server import CREDENTIALS, S3Server

from dsfn.functions.errors import NotFound
from dsfn.knative.pod.settings import store_settings
from dsfn.knative.pod.signed import Signer, signer
from dsfn.knative.pod.store import open_published

LIMIT_BYTES = 1 << 20


def test_a_signature_is_what_botocore_makes_of_the_same_request() -> None:
    auth = pytest.importorskip("botocore.auth")
    request = pytest.importorskip("botocore.awsrequest")
    credentials = pytest.importorskip("botocore.credentials")
    now = time.gmtime(1_700_000_000)
    asked = request.AWSRequest("GET", "https://store.example/bucket/a%20b/c.json")
    asked.headers["X-Amz-Content-SHA256"] = auth.EMPTY_SHA256_HASH
    asked.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", now)
    asked.headers["X-Amz-Date"] = asked.context["timestamp"]
    asked.headers["X-Amz-Security-Token"] = "token"
    peer = auth.S3SigV4Auth(credentials.Credentials("key", "secret", "token"), "s3", "eu-west-1")
    text = peer.string_to_sign(asked, peer.canonical_request(asked))
    own = Signer("https://store.example", "eu-west-1", "key", "secret", "token")
    headers = own.headers("store.example", "/bucket/a%20b/c.json", now)
    assert headers["authorization"].endswith(f"Signature={peer.signature(text, asked)}")


def test_an_object_comes_by_one_request(bucket: TestStore, s3: S3Server) -> None:
    settings = store_settings(bucket.url, bucket.variables)
    store = open_published(settings)
    store.objects.put("revisions/one.json", io.BytesIO(b"{}").getvalue())
    own = signer(s3.url, CREDENTIALS)
    assert own is not None
    name = bucket.url.removeprefix("s3://").partition("/")[0]
    assert own.get(name, "published/revisions/one.json", LIMIT_BYTES) == b"{}"
    assert own.get(name, "published/revisions/one.json", 0) == b"{"
    assert own.get(name, "published/revisions/none.json", LIMIT_BYTES) is None
    with pytest.raises(NotFound):
        store.objects.get("revisions/none.json", LIMIT_BYTES)
    store.snapshots.close()


def test_credentials_that_are_elsewhere_are_left_to_boto3() -> None:
    assert signer("", CREDENTIALS) is None
    assert signer("", {"AWS_REGION": "eu-west-1", "AWS_PROFILE": "work"}) is None
    own = signer("", {**CREDENTIALS, "AWS_REGION": "eu-west-1"})
    assert own is not None and own.endpoint == "https://s3.eu-west-1.amazonaws.com"
