"""What the documentation says is so: its commands work, its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import get_overloads

import pytest
from checkout import ROOMS, ROOT
from documentation import Shell, blocks, fits, transcript

import dsfn

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
RUN = {"python", "sh", "console"}
# These pages' blocks are run by tests of their own.
RUN_ELSEWHERE = {"events.md"}


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def runnable() -> list[Path]:
    with_blocks = [p for p in PAGES if RUN & {block.language for block in blocks(p)}]
    return [page for page in with_blocks if page.name not in RUN_ELSEWHERE]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell.make(tmp_path)
    yield made
    made.run("dsfn down")


@pytest.mark.parametrize("page", runnable(), ids=names(runnable()))
def test_the_blocks_of_a_page_work_one_after_the_other(page: Path, shell: Shell) -> None:
    for block in blocks(page):
        if block.language == "python":
            assert block.title.endswith(".py"), f"which file is this?\n{block.text}"
            (shell.place / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            code, printed = shell.run(block.text)
            assert code == 0, f"{block.text}\n{printed}"
        elif block.language == "console":
            for command, documented in transcript(block.text):
                _, printed = shell.run(command)
                assert fits(printed, documented), f"{command}\n{printed}\nis not\n{documented}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            found = (page.parent / target).resolve() if target else page
            assert found.exists(), link
            assert not anchor or anchor in anchors(found), link


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_file_of_the_readmes_tree_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.partition("## The tree")[2].partition("\n## ")[0]
    folder = Path()
    for depth, name, phrase in re.findall(r"^    (  )?([\w./]+) {2,}(.*)$", tree, re.M):
        folder = folder if depth else ROOT / name
        path = folder / name if depth else folder
        assert path.exists() and path.is_dir() == name.endswith("/"), path
        for other in re.findall(r"[\w/]+\.(?:py|sql)\b", phrase):
            assert (folder / other).is_file(), other


def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    there = [f"/{p.relative_to(ROOT)}" for room in ROOMS for p in (ROOT / room).rglob("*.py")]
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any(path.endswith(f"/{name}") for path in there) or name == "__init__.py", name


def test_every_option_of_a_function_is_documented() -> None:
    text = (ROOT / "docs" / "writing-functions.md").read_text(encoding="utf-8")
    section = text.partition("## Options")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.M)
    assert documented == list(signature(get_overloads(dsfn.function)[-1]).parameters)
