from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from dsfn.functions.errors import DsfnError, InvalidInput, NotFound, StorageFull
from dsfn.runtime.blobs import BlobStore, digest_of

DATA = b"what was heard"
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_a_blob_comes_back_by_its_digest_with_its_type(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put(DATA, "audio/wav")
    assert ref == f"blob:sha256:{DIGEST}"
    assert store.get(digest_of(ref)) == (DATA, "audio/wav")
    assert store.exists(DIGEST)
    assert (tmp_path / DIGEST[:2] / DIGEST).read_bytes() == DATA


def test_the_same_bytes_are_one_blob_with_the_type_given_last(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert store.put(DATA) == store.put(DATA, "audio/flac")
    assert store.get(DIGEST) == (DATA, "audio/flac")
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {DIGEST, f"{DIGEST}.type"}


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", DIGEST.upper(), "", "ab"])
def test_what_is_not_there_is_not_found(tmp_path: Path, digest: str) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    assert not store.exists(digest)
    with pytest.raises(NotFound):
        store.get(digest)


def test_a_damaged_blob_is_refused_and_putting_it_again_mends_it(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA, "audio/wav")
    (tmp_path / DIGEST[:2] / DIGEST).write_bytes(DATA[:-1])
    with pytest.raises(DsfnError, match="damaged"):
        store.get(DIGEST)
    store.put(DATA, "audio/wav")
    assert store.get(DIGEST) == (DATA, "audio/wav")


@pytest.mark.parametrize(
    "ref", ["", "blob:sha256:", "blob:md5:00", DIGEST, f"blob:sha256:{DIGEST}0"]
)
def test_what_is_no_reference_is_refused(ref: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        digest_of(ref)
    assert caught.value.fields["field"] == "$ref"


def test_a_full_disk_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageFull):
        BlobStore(tmp_path).put(DATA)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
