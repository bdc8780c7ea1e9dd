from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.functions.errors import BundleError
from dsfn.runtime.deploy import sources, unpack
from dsfn.runtime.deploy.bundle import pack, pack_again
from dsfn.runtime.deploy.imports import declared_requirements
from dsfn.runtime.deploy.unpack import unpack as unpack_into


def write(root: Path, **files: str) -> Path:
    """Files by name; `__` in a name is a slash, and each is Python."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def archive(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_a_file_comes_with_what_it_imports_from_next_to_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        app="import json, helper\nfrom package.inner import x\nimport dsfn",
        helper="def f():\n    import deep",
        deep="import helper",
        unrelated="",
        json_like="",
        dsfn="",
        package__inner="import shared",
        package__other="",
        shared="",
    )
    (tmp_path / "package" / "words.txt").write_text("a b")
    (tmp_path / "package" / "__pycache__").mkdir()
    (tmp_path / "package" / "__pycache__" / "inner.pyc").write_bytes(b"")
    packed = pack(tmp_path / "app.py")
    assert packed.entry == "app.py"
    assert names(packed.data) == [
        "app.py",
        "deep.py",
        "helper.py",
        "package/inner.py",
        "package/other.py",
        "package/words.txt",
        "shared.py",
    ]


def test_a_file_with_a_syntax_error_is_packed_for_the_node_to_report(tmp_path: Path) -> None:
    write(tmp_path, app="def f(:\n")
    assert names(pack(tmp_path / "app.py").data) == ["app.py"]


def test_a_directory_comes_whole_but_for_what_is_hidden_or_made(tmp_path: Path) -> None:
    write(tmp_path, app="", package__inner="")
    for skipped in (".git/config", ".env", "__pycache__/a.pyc", "node_modules/x.js", ".venv/a.py"):
        path = tmp_path / skipped
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "weights.bin").write_bytes(b"\0" * 10)
    packed = pack(tmp_path)
    assert packed.entry == "app.py"
    assert names(packed.data) == ["app.py", "package/inner.py", "weights.bin"]


@pytest.mark.parametrize(
    ("files", "entry"),
    [(("app", "main", "x"), "app.py"), (("main", "x"), "main.py"), (("x", "lib__y"), "x.py")],
)
def test_the_entry_of_a_directory(tmp_path: Path, files: tuple[str, ...], entry: str) -> None:
    write(tmp_path, **dict.fromkeys(files, ""))
    assert pack(tmp_path).entry == entry


def test_the_same_source_gives_the_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    for place, time_s in (("a", 1), ("b", 1_700_000_000)):
        root = write(tmp_path / place, app="import helper", helper="x = 1")
        for path in root.iterdir():
            os.utime(path, (time_s, time_s))
    assert pack(tmp_path / "a") == pack(tmp_path / "b") == pack(tmp_path / "a" / "app.py")


def test_what_cannot_be_deployed_is_refused_with_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, two__x="", two__y="")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    for path, sentence in (
        ("missing.py", "does not exist"),
        ("notes.txt", r"neither a Python file \(.py\), nor a workflow \(.yaml\), nor a dir"),
        ("empty", "no Python file at its top"),
        ("two", "2 Python files and none is app.py or main.py"),
    ):
        with pytest.raises(BundleError, match=sentence):
            pack(tmp_path / path)


def test_links_out_of_a_directory_and_special_files_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "app", app="")
    (root / "linked").symlink_to(tmp_path)
    with pytest.raises(BundleError, match="link to a directory"):
        pack(root)
    (root / "linked").unlink()
    (root / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(BundleError, match="dangling cannot be read: No such file"):
        pack(root)
    (root / "dangling").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(BundleError, match="not a regular file"):
        pack(root)


def test_a_linked_file_is_packed_as_what_it_links_to(tmp_path: Path) -> None:
    root = write(tmp_path, app="", elsewhere__real="x = 1")
    (root / "helper.py").symlink_to(root / "elsewhere" / "real.py")
    assert unpacked_files(root, pack(root).data)["helper.py"] == b"x = 1"


def test_size_and_count_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, app="x" * 100, b="y" * 100)
    monkeypatch.setattr(sources, "MAX_CONTENT_BYTES", 150)
    with pytest.raises(BundleError, match="more than 0 MiB"):
        pack(tmp_path)
    monkeypatch.setattr(sources, "MAX_CONTENT_BYTES", 1 << 20)
    monkeypatch.setattr(sources, "MAX_FILES", 1)
    with pytest.raises(BundleError, match="more than 1 files"):
        pack(tmp_path)


def unpacked_files(root: Path, data: bytes) -> dict[str, bytes]:
    directory = root / ".bundles" / unpack_into(data, root / ".bundles")
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def test_what_was_packed_unpacks_the_same(tmp_path: Path) -> None:
    long = "a" * 120 + "__" + "ü" * 60
    root = write(tmp_path, app="import helper", helper="x = 1", **{long: "y = 2"})
    (root / "run.sh").write_text("#!/bin/sh")
    (root / "run.sh").chmod(0o755)
    bundles = tmp_path / ".bundles"
    digest = unpack_into(pack(root).data, bundles)
    assert unpacked_files(root, pack(root).data) == {
        "app.py": b"import helper",
        "helper.py": b"x = 1",
        "run.sh": b"#!/bin/sh",
        long.replace("__", "/") + ".py": b"y = 2",
    }
    assert os.access(bundles / digest / "run.sh", os.X_OK)
    assert not os.access(bundles / digest / "app.py", os.X_OK)
    assert [path.name for path in bundles.iterdir()] == [digest]


def test_the_digest_is_that_of_the_content_whatever_the_compression(tmp_path: Path) -> None:
    data = pack(write(tmp_path, app="x = 1") / "app.py").data
    other = gzip.compress(gzip.decompress(data), compresslevel=1)
    assert other != data
    assert unpack_into(data, tmp_path / "b") == unpack_into(other, tmp_path / "b")
    write(tmp_path, app="x = 2")
    assert unpack_into(pack(tmp_path / "app.py").data, tmp_path / "b") != unpack_into(
        data, tmp_path / "b"
    )


@pytest.mark.parametrize(
    "hostile",
    [
        (member("/etc/passwd"),),
        (member("../outside.py"),),
        (member("a/../../outside.py"),),
        (member("link", tarfile.SYMTYPE, "/etc"), member("link/x.py")),
        (member("hard", tarfile.LNKTYPE, "/etc/passwd"),),
        (member("device", tarfile.CHRTYPE),),
        (member("pipe", tarfile.FIFOTYPE),),
        (member("."),),
        (member("n" * 300),),
        (member("same.py"), member("same.py")),
        (member("file"), member("file/below.py")),
        (member("directory/below.py"), member("directory")),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, hostile: tuple[tarfile.TarInfo, ...]
) -> None:
    bundles = tmp_path / "bundles"
    with pytest.raises(BundleError):
        unpack_into(archive(*hostile), bundles)
    assert sorted(tmp_path.rglob("*")) == [bundles]


def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = member("zeros.bin")
    large.size = 3 << 20
    monkeypatch.setattr(unpack, "MAX_CONTENT_BYTES", 2 << 20)
    with pytest.raises(BundleError, match="more than 2 MiB"):
        unpack_into(archive(large, content=bytes(large.size)), tmp_path / "b")
    monkeypatch.setattr(unpack, "MAX_TAR_BYTES", 1 << 20)
    with pytest.raises(BundleError, match="more than"):
        unpack_into(gzip.compress(bytes(2 << 20)), tmp_path / "b")
    monkeypatch.setattr(unpack, "MAX_FILES", 2)
    with pytest.raises(BundleError, match="more than 2 files"):
        unpack_into(archive(*(member(f"{n}.py") for n in range(5))), tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = pack(write(tmp_path, app="x = 1\n" * 50) / "app.py").data
    for length in range(len(data)):
        with pytest.raises(BundleError):
            unpack_into(data[:length], tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 1023), value=st.integers(0, 255), length=st.integers(1, 12))
def test_a_damaged_header_never_escapes_as_another_error(at: int, value: int, length: int) -> None:
    tar = bytearray(gzip.decompress(archive(member("app.py"), member("b" * 120), content=b"")))
    tar[at : at + length] = bytes([value]) * length
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            unpack_into(gzip.compress(bytes(tar)), directory / "b")
        except BundleError:
            assert list((directory / "b").iterdir()) == []
        assert {p.name for p in directory.iterdir()} == {"b"}


def test_requirements_are_read_from_the_text(tmp_path: Path) -> None:
    source = """
import dsfn
from dsfn import function
WANTED = ["c==3"]
@dsfn.function(requirements=["a==1", "b"])
def f(x: str) -> str: ...
@function(requirements=WANTED)
class G: ...
@function(requirements=compute())
def h() -> None: ...
other(requirements=["no"])
"""
    path = write(tmp_path, app=source) / "app.py"
    assert declared_requirements(path) == {"a==1", "b", "c==3"}


def unpacked(place: Path) -> Path:
    data = pack(write(place / "source", app="import helper", helper="") / "app.py").data
    return place / "bundles" / unpack_into(data, place / "bundles")


def test_what_is_unpacked_is_packed_again_without_what_was_compiled(tmp_path: Path) -> None:
    bundle = unpacked(tmp_path)
    (bundle / "__pycache__").mkdir()
    (bundle / "__pycache__" / "app.pyc").touch()
    assert names(pack_again(bundle)) == ["app.py", "helper.py"]


@pytest.mark.parametrize("name", ["helper.py", "new.py", "linked"])
def test_links_that_code_of_functions_puts_into_its_source_are_not_published(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("nobody's business")
    bundle = unpacked(tmp_path)
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).symlink_to(tmp_path / "secret" / ("key" if name.endswith(".py") else ""))
    with pytest.raises(BundleError, match=f"{name} was not in what was deployed"):
        pack_again(bundle)


def test_nobody_waits_at_a_fifo_in_an_unpacked_source(tmp_path: Path) -> None:
    bundle = unpacked(tmp_path)
    os.mkfifo(bundle / "new.py")
    assert sources.declared_by(bundle / "new.py") == frozenset()
    with pytest.raises(BundleError, match="it is not a regular file"):
        pack_again(bundle)
