"""The bytecode of many modules in one file, for processes whose start somebody waits for.

Finding and opening some hundred files takes a fifth of the time that importing them does, and more
on the layered directories of a container. `python -m dsfn.runtime.bytecode MODULE...` imports these
modules and writes all that are then imported to a file beside this one; `use_bytecode` has imports
read that. An image's build makes it (see `knative/images`): without it nothing changes.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, spec_from_file_location
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import CodeType, ModuleType

_FILE = Path(__file__).with_name("modules.bytecode")
_LENGTH_BYTES = 8
# Of each module: its source's path, where its submodules are, and its bytecode's place.
_Index = dict[str, tuple[str, list[str] | None, int, int]]


class _Loader(SourceFileLoader):
    """Of a module whose bytecode is at hand; in all else that of its source's path."""

    def __init__(self, name: str, path: str, bytecode: memoryview) -> None:
        super().__init__(name, path)
        self._bytecode = bytecode

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = marshal.loads(self._bytecode)
        return code


class _Finder:
    """`importlib.abc.MetaPathFinder` of the modules of a file."""

    def __init__(self, index: _Index, bytecode: memoryview) -> None:
        self._index = index
        self._bytecode = bytecode

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = self._index.get(name)
        if found is None:
            return None
        source, places, begin, end = found
        loader = _Loader(name, source, self._bytecode[begin:end])
        return spec_from_file_location(
            name, source, loader=loader, submodule_search_locations=places
        )


def use_bytecode(path: Path = _FILE) -> None:
    """Has imports read the file, if it is there and of what is installed now, until `end_use`."""
    try:
        with path.open("rb") as file:
            content = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
    except (OSError, ValueError):
        return
    begin = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    stamp, index = marshal.loads(content[_LENGTH_BYTES:begin])
    if stamp == _stamp():
        sys.meta_path.insert(0, _Finder(index, content[begin:]))


def end_use() -> None:
    """Has imports look where they usually do: for code that may have modules of the same names."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Finder)]


def bytecode_files(path: Path = _FILE) -> list[str]:
    """The file, where there is one: it is another one in each build of an image."""
    return [str(path)] if path.is_file() else []


def write_bytecode(modules: Sequence[str], path: Path = _FILE) -> None:
    """Imports the modules, and writes the bytecode of all that have a source and are imported."""
    for name in modules:
        import_module(name)
    index, pieces, end = _Index(), list[bytes](), 0
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is None or type(spec.loader) is not SourceFileLoader or name != spec.name:
            continue
        piece = marshal.dumps(spec.loader.get_code(name))
        places = spec.submodule_search_locations
        source = spec.loader.get_filename(name)
        index[name] = (source, None if places is None else list(places), end, end + len(piece))
        pieces.append(piece)
        end += len(piece)
    head = marshal.dumps((_stamp(), index))
    path.write_bytes(b"".join((len(head).to_bytes(_LENGTH_BYTES, "little"), head, *pieces)))


def _stamp() -> tuple[bytes, str, list[str]]:
    """Of what the bytecode is: of this Python, and of the packages beside dsfn with the versions
    that their directories' names tell."""
    home = Path(__file__).parents[2]
    installed = sorted(each.name for each in home.iterdir() if each.suffix == ".dist-info")
    return MAGIC_NUMBER, str(home), installed


if __name__ == "__main__":
    write_bytecode(sys.argv[1:])
