"""Abuse of a snapshot's files: each is refused before anything of it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_app import small_transformer

from dsfn.functions.errors import CorruptSnapshot, MemoryFull, SnapshotError
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory, CpuSlab
from dsfn.snapshots.format import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    OBJECTS_FILE,
    Manifest,
    Origin,
    SlabEntry,
    encode_manifest,
    slab_file,
)
from dsfn.snapshots.golden import Golden
from dsfn.snapshots.reading import decode_manifest
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify

SLAB_FILE, GPU_SLAB_FILE = slab_file("cpu"), slab_file("gpu:0")
FILES = [SLAB_FILE, GPU_SLAB_FILE, OBJECTS_FILE, GOLDEN_FILE, MANIFEST_FILE]
MEMORIES = {"cpu": CpuMemory(), "gpu:0": CpuMemory()}
ORIGIN = Origin("c" * 64, "0" * 64, {"numpy": version("numpy")})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound snapshot of a model, an empty tensor, and, as if on a GPU, a view and a count.
    Not to be written to."""
    directory = tmp_path_factory.mktemp("sound")
    state = {
        "model": small_transformer(),
        "view": torch.arange(100)[10:20],
        "empty": torch.empty(0, 2),
        "count": torch.arange(3),
    }
    golden = Golden("application/json", b"[1, 2]")
    capture(state, Classes(), directory, origin=ORIGIN, golden=golden, place=by_dtype)
    return directory


def by_dtype(tensor: torch.Tensor) -> str:
    """Integers on the GPU."""
    return "gpu:0" if tensor.dtype == torch.int64 else "cpu"


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound snapshot that may be damaged."""
    return copytree(sound, tmp_path / "copy")


def check(directory: Path) -> None:
    verify(directory, Classes(), MEMORIES)


def read(directory: Path) -> Manifest:
    return decode_manifest((directory / MANIFEST_FILE).read_bytes())[1]


def test_a_fresh_process_finds_the_snapshot_sound(sound: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dsfn.snapshots.classes import Classes;"
        "from dsfn.snapshots.cpu import CpuMemory; from dsfn.snapshots.verify import verify;"
        "memories = {'cpu': CpuMemory(), 'gpu:0': CpuMemory()};"
        "print(verify(Path(sys.argv[1]), Classes(), memories))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(sound)],
        env={"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    size = sum((sound / name).stat().st_size for name in (SLAB_FILE, GPU_SLAB_FILE))
    assert run.stdout.strip() == f"Verified(tensors=28, bytes={size})"


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_found(name: str, copy: Path) -> None:
    data = bytearray((copy / name).read_bytes())

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, len(data) - 1), st.integers(0, 7))
    def flip(at: int, bit: int) -> None:
        data[at] ^= 1 << bit
        (copy / name).write_bytes(data)
        data[at] ^= 1 << bit
        with pytest.raises(CorruptSnapshot):
            check(copy)

    flip()
    (copy / name).write_bytes(data)
    check(copy)


def test_padding_that_is_not_zero_is_found(copy: Path) -> None:
    manifest = read(copy)
    ends = [s.offset + s.size_bytes for s in manifest.storages]
    end = next(end for end in ends if end % 64)
    data = bytearray((copy / SLAB_FILE).read_bytes())
    data[manifest.slabs[0].data_offset + end] = 1
    (copy / SLAB_FILE).write_bytes(data)
    with pytest.raises(CorruptSnapshot, match="padding"):
        check(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [-1, 1, None], ids=["shorter", "longer", "missing"])
def test_a_file_of_another_size_is_refused_by_restore_itself(
    name: str, change: int | None, copy: Path
) -> None:
    data = (copy / name).read_bytes()
    (copy / name).unlink()
    if change is not None:
        (copy / name).write_bytes(data[:-1] if change < 0 else data + b"\0")
    with pytest.raises(CorruptSnapshot):
        restore(copy, Classes(), MEMORIES)


@pytest.mark.parametrize("name", [OBJECTS_FILE, MANIFEST_FILE])
def test_flipped_objects_and_manifests_are_refused_by_restore_itself(name: str, copy: Path) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(CorruptSnapshot):
        restore(copy, Classes(), MEMORIES)


def test_a_snapshot_under_anothers_digest_is_refused(sound: Path, tmp_path: Path) -> None:
    other = copytree(sound, tmp_path / ("0" * 64))
    with pytest.raises(CorruptSnapshot, match="another snapshot"):
        restore(other, Classes(), MEMORIES)


def test_a_slab_whose_header_says_something_else_is_refused(copy: Path) -> None:
    data = (copy / SLAB_FILE).read_bytes().replace(b"model.embedding", b"model.EMBEDDING", 1)
    (copy / SLAB_FILE).write_bytes(data)
    manifest = read(copy)
    change = with_slab(0, digest=sha256(data).hexdigest())
    (copy / MANIFEST_FILE).write_bytes(encode_manifest(change(manifest)))
    with pytest.raises(CorruptSnapshot, match="header"):
        check(copy)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda m: replace(m, torch="0.1"), SnapshotError, "captured with torch 0.1"),
        (lambda m: replace(m, python="2.7"), SnapshotError, "captured with Python 2.7"),
        (lambda m: replace(m, device_class="abacus"), SnapshotError, "device abacus"),
        (lambda m: replace(m, libraries={"numpy": "0.1"}), SnapshotError, "with numpy 0.1, and"),
        (lambda m: replace(m, libraries={"nothing": "1"}), SnapshotError, "does not have it"),
        (lambda m: replace(m, libraries={"": "1"}), SnapshotError, "does not have it"),
        (lambda m: replace(m, format_version=1), CorruptSnapshot, "format version 1"),
    ],
)
def test_a_snapshot_of_another_world_is_refused(
    change: Callable[[Manifest], Manifest], kind: type[SnapshotError], words: str, copy: Path
) -> None:
    (copy / MANIFEST_FILE).write_bytes(encode_manifest(change(read(copy))))
    with pytest.raises(kind, match=words):
        check(copy)


def test_a_snapshot_for_devices_that_a_process_lacks_is_refused(sound: Path) -> None:
    with pytest.raises(SnapshotError, match="needs gpu:0, and this process has cpu"):
        restore(sound, Classes(), {"cpu": CpuMemory()})


def test_slabs_that_were_mapped_before_the_restore_failed_are_given_up(copy: Path) -> None:
    class Full:
        device_class = "cpu"

        def map(self, directory: Path, entry: SlabEntry) -> CpuSlab:
            raise MemoryFull("There is no room.")

    with pytest.raises(MemoryFull):
        restore(copy, Classes(), {"cpu": CpuMemory(), "gpu:0": Full()})
    assert str(copy) not in Path("/proc/self/maps").read_text()


def with_slab(index: int, **fields: Any) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        rows = list(manifest.slabs)
        rows[index] = replace(rows[index], **fields)
        return replace(manifest, slabs=tuple(rows))

    return change


def gpu_slab(device: str) -> SlabEntry:
    return SlabEntry(device, slab_file(device), "0" * 64, 4096, 4096, 0)


def with_storage(index: int, **fields: Any) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        rows = list(manifest.storages)
        rows[index] = replace(rows[index], **fields)
        return replace(manifest, storages=tuple(rows))

    return change


def with_tensor(index: int, **fields: Any) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        rows = list(manifest.tensors)
        rows[index] = replace(rows[index], **fields)
        return replace(manifest, tensors=tuple(rows))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_storage(1, offset=0), "not where"),
        (with_storage(1, offset=1 << 40), "not where"),
        (with_storage(1, offset=-64), "not a count"),
        (with_storage(-1, offset=1.5), "not a count"),
        (with_storage(1, name="model.embedding.weight"), "taken"),
        (with_storage(1, name="__pad.0"), "taken"),
        (with_storage(1, name=7), "not a string"),
        (with_storage(1, dtype="F7"), "unknown dtype"),
        (with_storage(1, shape=(1,)), "its shape says"),
        (with_storage(1, shape=(-1,)), "array of counts"),
        (with_storage(1, shape=(True,)), "array of counts"),
        (with_storage(1, size_bytes=1), "its shape says"),
        (with_storage(1, slab=1), "not where"),
        (with_storage(-1, slab=0), "order of the slabs"),
        (with_storage(-1, slab=2), "which there is not"),
        (with_storage(-1, slab=-1), "not a count"),
        (lambda m: replace(m, storages=m.storages[::-1]), "order of the slabs"),
        (lambda m: replace(m, storages=m.storages[:-1]), "do not fill"),
        (lambda m: replace(m, slabs=()), "which there is not"),
        (lambda m: replace(m, slabs=(*m.slabs, gpu_slab("gpu:1"))), "do not fill"),
        (lambda m: replace(m, slabs=m.slabs[::-1]), "wrong place"),
        (lambda m: replace(m, slabs=m.slabs + m.slabs[1:]), "twice"),
        (with_slab(1, device="cpu"), "twice"),
        (with_slab(1, device="gpu:16"), "no device 'gpu:16'"),
        (with_slab(1, device="gpu:00"), "no device 'gpu:00'"),
        (with_slab(1, device="tpu:0"), "no device 'tpu:0'"),
        (with_slab(1, device=0), "not a string"),
        (with_slab(1, device="gpu:1"), "not how the slab of gpu:1 is called"),
        (with_slab(1, file="../slab-gpu0.safetensors"), "is called"),
        (with_slab(1, file=SLAB_FILE), "is called"),
        (with_slab(1, file=MANIFEST_FILE), "is called"),
        (with_slab(0, data_offset=0), "no page"),
        (with_slab(0, data_offset=100), "no page"),
        (with_slab(0, data_offset=1 << 30), "do not fill"),
        (with_slab(1, size_bytes=8192), "do not fill"),
        (with_slab(1, digest="../../etc"), "not a sha256"),
        (with_slab(1, first_use=3), "more storages of slab-gpu0.safetensors were used"),
        (with_slab(1, first_use=None), "not a count"),
        (lambda m: replace(m, objects=replace(m.objects, digest="A" * 64)), "not a sha256"),
        (lambda m: replace(m, code="main"), "'code' is not a sha256"),
        (lambda m: replace(m, options=None), "not a string"),
        (lambda m: replace(m, libraries=[]), "where an object belongs"),
        (lambda m: replace(m, libraries={"numpy": 2}), "not a string"),
        (lambda m: replace(m, libraries=dict.fromkeys(map(str, range(1001)), "1")), "1000"),
        (lambda m: replace(m, golden=replace(m.golden, content_type=None)), "not a string"),
        (lambda m: replace(m, golden=replace(m.golden, digest="")), "not a sha256"),
        (lambda m: replace(m, golden=replace(m.golden, size_bytes=-1)), "not a count"),
        (with_tensor(0, dtype="float33"), "unknown dtype"),
        (with_tensor(0, dtype="complex128"), "beyond its storage"),
        (with_tensor(0, storage=999), "which there is not"),
        (with_tensor(0, offset=1), "beyond its storage"),
        (with_tensor(0, offset=-1), "not a count"),
        (with_tensor(0, stride=(25, 1)), "beyond its storage"),
        (with_tensor(0, stride=(1,)), "does not fit its shape"),
        (with_tensor(0, shape=(1,) * 65, stride=(1,) * 65), "does not fit its shape"),
        (with_tensor(0, shape=(1 << 61, 1 << 61)), "beyond its storage"),
        (with_tensor(0, requires_grad=1), "not true or false"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    change: Callable[[Manifest], Manifest], words: str, sound: Path
) -> None:
    with pytest.raises(CorruptSnapshot, match=words):
        decode_manifest(encode_manifest(change(read(sound))))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"nonsense", b"[" * 100_000, b'{"format_version":1}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(body: bytes) -> None:
    framed = b'{"digest":"%s","manifest":%s}\n' % (sha256(body).hexdigest().encode(), body)
    for data in (body, framed):
        with pytest.raises(CorruptSnapshot):
            decode_manifest(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_manifest_with_any_value_replaced_is_read_or_refused(
    sound: Path, data: st.DataObject
) -> None:
    body = json.loads(read(sound).canonical())
    target: Any = body
    while True:
        keys = sorted(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], dict | list) or not target[key] or data.draw(st.booleans()):
            break
        target = target[key]
    values = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
    target[key] = data.draw(values | st.lists(values, max_size=2))
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    encoded = text.encode()
    framed = b'{"digest":"%s","manifest":%s}\n' % (sha256(encoded).hexdigest().encode(), encoded)
    with suppress(CorruptSnapshot):
        decode_manifest(framed)
