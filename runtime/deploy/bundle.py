"""A bundle: the source of a deployment as one reproducible tar.gz.

The command line packs, the node unpacks. The same source gives the same tar
byte for byte on every machine; its SHA-256 is the bundle's digest, so that the
compressor's version does not matter.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from dsfn.functions.errors import BundleError
from dsfn.functions.values import dataclass
from dsfn.runtime.deploy.sources import MAX_CONTENT_BYTES, MAX_FILES, SourceFile, source_files
from dsfn.snapshots.regular import NotRegular, open_regular

# A tar adds a header of 512 bytes, padding and, for long names, more headers to each file.
MAX_TAR_BYTES = MAX_CONTENT_BYTES + 4096 * MAX_FILES
BUNDLE_CONTENT_TYPE = "application/vnd.dsfn.bundle+gzip"
_COMPRESSION = 6


@dataclass(frozen=True, slots=True)
class Bundle:
    """`data` is the tar.gz, `entry` the path inside it of the file with the functions."""

    data: bytes
    entry: str


def pack(path: Path) -> Bundle:
    """The bundle of a Python file or of a directory.

    Of a file: with the modules and packages next to it that it imports. Of a
    directory: with all that is in it and not hidden. Raises `BundleError`.
    """
    try:
        entry, files = source_files(path)
        return Bundle(_tar_gz(files, through_links=True), entry)
    except OSError as error:
        raise BundleError(f"{error.filename or path} cannot be read: {error.strerror}.") from error


def pack_again(directory: Path) -> bytes:
    """The tar.gz of a bundle that lies unpacked in `directory`; what was compiled there is left
    out. Raises `BundleError` where code of functions has put something else than files there."""
    paths = (p for p in directory.rglob("*") if "__pycache__" not in p.parts)
    names = sorted((p.relative_to(directory).as_posix(), p) for p in paths)
    try:
        return _tar_gz(tuple(_unpacked(n, p) for n, p in names if p.is_symlink() or not p.is_dir()))
    except NotRegular as error:
        raise BundleError(
            f"{error.filename} was not in what was deployed, and {error.strerror}: the source has"
            " changed since it was unpacked. Deploy it again with any change."
        ) from error


def _unpacked(name: str, path: Path) -> SourceFile:
    return SourceFile(name, path, bool(path.lstat().st_mode & 0o100))


def _tar_gz(files: tuple[SourceFile, ...], *, through_links: bool = False) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(
            filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=_COMPRESSION
        ) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            with open_regular(file.path, through_links=through_links) as opened:
                data = opened.read()
            info = tarfile.TarInfo(file.name)
            info.size = len(data)
            info.mode = 0o755 if file.executable else 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
