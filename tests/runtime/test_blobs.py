"""Blobs in the folder of a node."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from dsfn.functions.errors import CorruptBlob, InvalidInput, NotFound, StorageFull
from dsfn.runtime.blobs import BlobStore, digest_of, references_in

DATA = b"what was heard"
DIGEST = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def files_of(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file()}


def age(root: Path, digest: str, seconds: float) -> None:
    """Makes a blob as old as that."""
    then = time.time() - seconds
    os.utime(root / digest[:2] / digest, (then, then))


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
    assert files_of(tmp_path) == {DIGEST, f"{DIGEST}.type"}


def test_the_same_bytes_are_not_written_again_but_are_young_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    path = tmp_path / DIGEST[:2] / DIGEST
    age(tmp_path, DIGEST, 1000)
    before = path.stat()
    store.put(DATA)
    after = path.stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime > before.st_mtime + 900


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", DIGEST.upper(), "", "ab"])
def test_what_is_not_there_is_not_found(tmp_path: Path, digest: str) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    assert not store.exists(digest)
    with pytest.raises(NotFound):
        store.get(digest)
    with pytest.raises(NotFound):
        store.keep(digest)


@pytest.mark.parametrize("damaged", [DATA[:-1], DATA[:-1] + b"D", DATA + b"!", b""])
def test_a_damaged_blob_is_refused_by_its_name_and_putting_it_again_mends_it(
    tmp_path: Path, damaged: bytes
) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA, "audio/wav")
    (tmp_path / DIGEST[:2] / DIGEST).write_bytes(damaged)
    with pytest.raises(CorruptBlob, match=f"{DIGEST} is damaged"):
        store.get(DIGEST)
    store.put(DATA, "audio/wav")
    assert store.get(DIGEST) == (DATA, "audio/wav")


def test_a_blob_is_described_without_reading_all_of_it(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA, "audio/wav")
    assert store.describe(DIGEST) == (len(DATA), "audio/wav")
    assert store.head(DIGEST, 4) == DATA[:4]
    for ask in (store.describe, lambda digest: store.head(digest, 4)):
        with pytest.raises(NotFound):
            ask(OTHER)


def test_threads_that_put_the_same_bytes_at_once_get_one_blob(tmp_path: Path) -> None:
    store, data = BlobStore(tmp_path), bytes(200_000)
    refs: list[str] = []
    threads = [threading.Thread(target=lambda: refs.append(store.put(data))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs) == 16 and len(set(refs)) == 1
    assert len(files_of(tmp_path)) == 2


def test_what_a_killed_node_had_half_written_goes_when_it_starts(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    (tmp_path / ".staging" / "half").write_bytes(b"half of")
    store.clean()
    assert files_of(tmp_path) == {DIGEST, f"{DIGEST}.type"}
    store.put(b"other")
    assert store.exists(OTHER)


def test_a_blob_that_is_kept_is_as_young_as_a_new_one(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    age(tmp_path, DIGEST, 1000)
    assert [blob.digest for blob in store.aged(500)] == [DIGEST]
    store.keep(DIGEST)
    assert not list(store.aged(500))


@pytest.mark.parametrize(
    "ref", ["", "blob:sha256:", "blob:md5:00", DIGEST, f"blob:sha256:{DIGEST}0"]
)
def test_what_is_no_reference_is_refused(ref: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        digest_of(ref)
    assert caught.value.fields["field"] == "$ref"


def test_references_are_found_in_json_and_nowhere_else() -> None:
    body = f'{{"a": {{"$ref": "blob:sha256:{DIGEST}"}}, "b": "blob:sha256:{OTHER}0"}}'.encode()
    assert references_in("application/json", body) == {DIGEST}
    assert references_in("application/cloudevents+json; charset=utf-8", body) == {DIGEST}
    assert references_in("image/png", body) == frozenset()


def test_a_full_disk_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageFull):
        BlobStore(tmp_path).put(DATA)
    assert files_of(tmp_path) == set()
