"""Modules come from one file of bytecode where that is of what is installed."""

from __future__ import annotations

import marshal
import subprocess
import sys
from pathlib import Path

import pytest

LENGTH_BYTES = 8


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A package `shelf`, with bytecode of it and of what it imports in `file`."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "__init__.py").write_text("import colorsys\nfrom shelf.book import TITLE\n")
    (shelf / "book.py").write_text('TITLE = "as written"\n')
    (shelf / "note.txt").write_text("beside it")
    write = "write_bytecode(['shelf'], Path('file'))"
    assert ran(tmp_path, f"from dsfn.runtime.bytecode import write_bytecode\n{write}") == ""
    return tmp_path


def ran(place: Path, program: str) -> str:
    """What a new Python prints that runs a program in `place`."""
    head = f"import sys\nfrom pathlib import Path\nsys.path.append({str(place)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", head + program],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


USE = "from dsfn.runtime.bytecode import end_use, use_bytecode\nuse_bytecode(Path('file'))\n"


def test_modules_are_taken_from_the_file_and_are_as_from_their_sources(place: Path) -> None:
    (place / "shelf" / "book.py").unlink()
    program = """
import shelf, colorsys, importlib.resources as resources
print(shelf.TITLE, shelf.__file__, shelf.__path__, shelf.book.__package__)
print(resources.files(shelf).joinpath("note.txt").read_text(), colorsys.rgb_to_yiq.__module__)
"""
    shelf = place / "shelf"
    assert ran(place, USE + program).splitlines() == [
        f"as written {shelf}/__init__.py ['{shelf}'] shelf",
        "beside it colorsys",
    ]


def test_a_file_of_other_packages_is_not_used(place: Path) -> None:
    content = (place / "file").read_bytes()
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    (magic, home, installed), index = marshal.loads(content[LENGTH_BYTES:end])
    head = marshal.dumps(((magic, home, [*installed, "starlette-9.dist-info"]), index))
    other = len(head).to_bytes(LENGTH_BYTES, "little") + head + content[end:]
    (place / "file").write_bytes(other)
    (place / "shelf" / "book.py").write_text('TITLE = "as it is now"\n')
    assert ran(place, f"{USE}import shelf\nprint(shelf.TITLE)") == "as it is now"


@pytest.mark.parametrize("content", [None, b""])
def test_without_a_file_imports_go_on_as_usual(place: Path, content: bytes | None) -> None:
    (place / "file").unlink()
    if content is not None:
        (place / "file").write_bytes(content)
    assert ran(place, f"{USE}import shelf\nprint(shelf.TITLE)") == "as written"


def test_at_its_end_a_module_of_the_same_name_is_found_where_imports_look(place: Path) -> None:
    mine = place / "mine"
    mine.mkdir()
    (mine / "shelf.py").write_text('TITLE = "mine"\n')
    program = f"sys.path.insert(0, {str(mine)!r})\nend_use()\nimport shelf\nprint(shelf.TITLE)"
    assert ran(place, USE + program) == "mine"
