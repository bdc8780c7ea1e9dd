"""Which files belong to a deployment."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from dsfn.functions.errors import BundleError
from dsfn.functions.values import dataclass
from dsfn.runtime.deploy.imports import declared_requirements, imported_names

MAX_CONTENT_BYTES = 100 << 20
MAX_FILES = 10_000
_ENTRIES = ("app.py", "main.py")
_SKIPPED = frozenset(("__pycache__", "node_modules"))
# The node brings its own; a copy would be a second set of every class.
_OWN_PACKAGE = "dsfn"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file and its name inside the bundle."""

    name: str
    path: Path
    executable: bool


def declared_by(entry: Path) -> frozenset[str]:
    """The requirements spelt out in the entry of a deployment and what it imports beside it."""
    files = (path for path in with_siblings(entry) if path.suffix == ".py")
    return frozenset(each for path in files for each in declared_requirements(path))


def source_files(path: Path) -> tuple[str, tuple[SourceFile, ...]]:
    """The entry's name and the files of a deployment, sorted by name. Raises `BundleError`."""
    if path.is_dir():
        root, entry = path, _entry_of(path)
        paths: Iterator[Path] = _below(path)
    elif path.is_file() and is_yaml(path.name):
        root, entry, paths = path.parent, path.name, iter((path,))
    elif path.is_file() and path.suffix == ".py":
        root, entry = path.parent, path.name
        paths = with_siblings(path)
    elif path.exists():
        raise BundleError(
            f"{path} is neither a Python file (.py), nor a workflow (.yaml), nor a directory."
        )
    else:
        raise BundleError(f"{path} does not exist.")
    files = _limited(path, (_source_file(root, p) for p in paths))
    return entry, tuple(sorted(files, key=lambda file: file.name))


def is_yaml(name: str) -> bool:
    """Whether a file is a workflow in YAML, by its name."""
    return name.endswith((".yaml", ".yml"))


def _entry_of(directory: Path) -> str:
    """`app.py`, else `main.py`, else the only Python file at the top."""
    found = sorted(p.name for p in directory.glob("*.py") if not _is_skipped(p.name))
    for name in _ENTRIES:
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    if not found:
        raise BundleError(f"{directory} has no Python file at its top; put functions into app.py.")
    raise BundleError(
        f"{directory} has {len(found)} Python files and none is app.py or main.py; name one so,"
        " or deploy the file itself."
    )


def with_siblings(entry: Path) -> Iterator[Path]:
    """The file and, recursively, the modules and packages next to it that it imports.

    They are found from the text of the files; nothing is run.
    """
    root = entry.parent
    seen = {entry.stem, _OWN_PACKAGE}
    waiting = [entry]
    while waiting:
        file = waiting.pop()
        yield file
        for name in sorted(imported_names(file) - seen) if file.suffix == ".py" else ():
            seen.add(name)
            waiting.extend(_sibling(root, name))


def _sibling(root: Path, name: str) -> list[Path]:
    """The files of module or package `name` in `root`; none when it is not there."""
    package, module = root / name, root / f"{name}.py"
    if package.is_dir():
        files = list(_below(package))
        if any(file.suffix == ".py" for file in files):
            return files
    return [module] if module.is_file() else []


def _below(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if _is_skipped(path.name) or (path / "pyvenv.cfg").exists():
            continue
        if not path.is_dir():
            yield path
        elif path.is_symlink():
            # Following it could lead out of the directory, or round in a circle.
            raise BundleError(
                f"{path} is a link to a directory; put the directory itself there, or a hidden"
                " name on the link."
            )
        else:
            yield from _below(path)


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED


def _source_file(root: Path, path: Path) -> tuple[SourceFile, int]:
    """The file with its size in bytes."""
    try:
        status = path.stat()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path} is not a regular file.")
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BundleError(f"The name {name!r} is not UTF-8; rename the file.") from None
    return SourceFile(name, path, bool(status.st_mode & stat.S_IXUSR)), status.st_size


def _limited(path: Path, files: Iterator[tuple[SourceFile, int]]) -> Iterator[SourceFile]:
    total_bytes = 0
    for count, (file, size_bytes) in enumerate(files, start=1):
        total_bytes += size_bytes
        if count > MAX_FILES:
            raise BundleError(f"{path} has more than {MAX_FILES} files.", limit=MAX_FILES)
        if total_bytes > MAX_CONTENT_BYTES:
            raise BundleError(
                f"{path} has more than {MAX_CONTENT_BYTES >> 20} MiB; large data does not belong"
                " into a bundle: load it in setup().",
                limit_bytes=MAX_CONTENT_BYTES,
            )
        yield file
