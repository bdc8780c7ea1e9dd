"""What an image is, as a file.

A head, in Python's own marshal format, with its length in eight bytes before it; then pages, each
piece at a multiple of their size. The head says of what machine and which files the image is:
another one cannot go on from it.

A process that goes on from an image begins with this: nothing large is imported here, `typing` and
`pathlib` are.
"""

from __future__ import annotations

import marshal
import os
from collections import namedtuple
from collections.abc import Iterable, Mapping
from contextlib import suppress

VERSION = 1
# Of the head with its length; pages come behind it.
HEAD_BYTES = 1 << 20
_LENGTH_BYTES = 8
# The kernel draws it when it starts.
_BOOT = "/proc/sys/kernel/random/boot_id"
# Of variables that Python and native libraries read once, when they are loaded.
_READ_AT_LOAD = (
    "ATEN_",
    "CUBLAS",
    "CUDNN",
    "DNNL_",
    "GLIBC_",
    "GOMP_",
    "GOTO_",
    "KINETO_",
    "KMP_",
    "LANG",
    "LC_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "NPY_",
    "NUMPY_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "OPENSSL_",
    "PYTHON",
    "PYTORCH_",
    "TORCH",
    "TZ",
)

Head = Mapping[str, object]
# Of what marshal knows.
Message = Mapping[str, object]

# A stretch of addresses. `file`: what is mapped there, "" for none. `kind`: "", "vdso", "stack", or
# "wiped" for what is empty in each process. `kept`: what differs from the file, or from zeros, as
# (address, bytes, place in the image).
Region = namedtuple("Region", ("begin", "size", "protection", "file", "offset", "kind", "kept"))

# Addresses of what the kernel and the C library have of the process and its one thread. `bounds`:
# eleven of them, as prctl(PR_SET_MM_MAP) wants them.
Thread = namedtuple(
    "Thread", ("registers", "own", "number", "robust", "rseq", "rseq_bytes", "bounds")
)


class Unfit(Exception):
    """An image that cannot be made, or used."""


class Elsewhere(Unfit):
    """One of another machine, of other files or of another environment: nothing is wrong."""


def identity(files: Iterable[str], packages: Iterable[str]) -> dict[str, object]:
    """What must be the same where an image is used: the machine since it was started, the files
    mapped, and `packages`, the directories that say which are installed. Raises `OSError`."""
    with open(_BOOT, encoding="ascii") as file:
        boot = file.read()
    return {
        "version": VERSION,
        "boot": boot,
        "files": [_stamp(each) for each in sorted(files)],
        "packages": [each for each in sorted(packages) if os.path.isdir(each)],
    }


def read_at_load(environ: Mapping[str, str]) -> dict[str, str]:
    """Those variables that libraries read when they are loaded."""
    return {name: environ[name] for name in environ if name.startswith(_READ_AT_LOAD)}


def check(head: Head, environ: Mapping[str, str]) -> None:
    """Raises `Elsewhere`, and `OSError` for a file that is not here."""
    made = head.get("identity")
    # Of another version nothing else is known.
    if not isinstance(made, dict) or made.get("version") != VERSION:
        raise Elsewhere("it is of another version of dsfn")
    if identity([each[0] for each in made["files"]], made["packages"]) != made:
        raise Elsewhere("it is of another machine, or of other files")
    if read_at_load(environ) != head["environment"]:
        raise Elsewhere("libraries have read another environment")


def write_head(file: int, head: Head) -> None:
    """Raises `OSError`, and `Unfit` where there is no room for it."""
    content = marshal.dumps(dict(head))
    if _LENGTH_BYTES + len(content) > HEAD_BYTES:
        raise Unfit("its head is too large")
    os.pwrite(file, len(content).to_bytes(_LENGTH_BYTES, "little") + content, 0)


def read_head(file: int) -> dict[str, object]:
    """Raises `OSError`, `Unfit`."""
    length = int.from_bytes(os.pread(file, _LENGTH_BYTES, 0), "little")
    if 0 < length <= HEAD_BYTES - _LENGTH_BYTES:
        with suppress(EOFError, ValueError, TypeError):
            head = marshal.loads(os.pread(file, length, _LENGTH_BYTES))
            if isinstance(head, dict):
                return head
    raise Unfit("it is no image")


def tell(message: Message) -> int:
    """A descriptor at which a process that goes on from an image hears this. Raises `OSError`."""
    file = os.memfd_create("told")
    with open(file, "wb", closefd=False) as out:
        marshal.dump(dict(message), out)
    return file


def hear(file: int) -> Message:
    """What was told; the descriptor is closed. Raises `OSError`."""
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb") as told:
        message: Message = marshal.load(told)
    return message


def _stamp(path: str) -> tuple[str, int, int]:
    """The layers of a container's image keep both, whichever image they are in."""
    found = os.stat(path)
    return path, found.st_size, found.st_mtime_ns
