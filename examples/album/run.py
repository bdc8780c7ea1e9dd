"""Sends a folder of mixed files through `index-folder`, and searches what comes of it.

    python examples/album/run.py FOLDER ... [--ask "a cat"] ...

The node must run, with the workflow and the library's functions deployed: see app.py.
"""

from __future__ import annotations

import argparse
import mimetypes
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dsfn.runtime.cli.place import chosen_target

# What a list of the workflow takes, and how the steps of its items are called.
KINDS = {
    "image": ("photos", "photo"),
    "audio": ("recordings", "recording"),
    "text": ("notes", "note"),
}
TIMEOUT_S = 300.0
QUESTIONS = ("a cat", "somebody talks", "what do I need for breakfast?")
HERE = Path(__file__).parent
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Folder:
    """Files by the list of the workflow that takes them, in order."""

    photos: list[Path] = field(default_factory=list)
    recordings: list[Path] = field(default_factory=list)
    notes: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, places: Iterable[Path]) -> Folder:
        """The photos, recordings and notes in these folders; other files are left out."""
        folder = cls()
        for path in (path for place in places for path in sorted(place.iterdir())):
            kind = content_type(path).partition("/")[0]
            if path.is_file() and kind in KINDS and path.suffix != ".md":
                getattr(folder, KINDS[kind][0]).append(path)
        return folder

    def lists(self) -> dict[str, list[Path]]:
        """Each list by its name."""
        return {name: getattr(self, name) for name, _ in KINDS.values()}


def content_type(path: Path) -> str:
    """What a file's name says that it is."""
    return mimetypes.guess_type(path.name)[0] or ""


def run(http: httpx.Client, workflow: str, inputs: Document) -> tuple[Any, Document]:
    """Runs a workflow; its result, and the document of its run."""
    answer = http.post(f"/workflows/{workflow}", json=inputs)
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"{workflow}: {answer.json().get('detail', answer.text)}")
    document: Document = http.get(answer.headers["location"]).raise_for_status().json()
    return answer.json(), document


def index(http: httpx.Client, folder: Folder) -> tuple[list[Document], Document]:
    """The index of a folder and its run. Each file is stored once and given by reference."""
    given: Document = {name: [stored(http, p) for p in ps] for name, ps in folder.lists().items()}
    names = {name: [path.name for path in paths] for name, paths in folder.lists().items()}
    return run(http, "index-folder", {"names": names, **given})


def stored(http: httpx.Client, path: Path) -> Document:
    """A file on the node, as a part of JSON."""
    headers = {"Content-Type": content_type(path)}
    answer = http.post("/blobs", content=path.read_bytes(), headers=headers).raise_for_status()
    return {"$ref": answer.json()["ref"], "content_type": content_type(path), "name": path.name}


def cost_lines(folder: Folder, found: list[Document], run: Document) -> Iterator[str]:
    """A line for each file, with what was found and what its steps cost, and one for all."""
    costs: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for step in run["steps"]:
        who = file_of(folder, step)
        costs[who] += step["cost"]["amount_nano"]
        times[who] += step["held_us"]
    texts: dict[str, str] = {}
    for entry in found:
        texts.setdefault(entry["file"], entry["text"])
    currency = run["cost"]["currency"]
    yield line("file", "what was found", "held ms", currency)
    for name, text in texts.items():
        yield line(name, text, f"{times[name] / 1000:.1f}", money(costs[name]))
    yield line("", "joining the index", f"{times[''] / 1000:.1f}", money(costs[""]))
    total = money(run["cost"]["amount_nano"])
    yield line("", f"{len(run['steps'])} steps in all", f"{run['held_us'] / 1000:.1f}", total)


def file_of(folder: Folder, step: Document) -> str:
    """The file that a step was for, "" for one that was for all of them."""
    for name, word in KINDS.values():
        if step["item"] is not None and step["id"].startswith(f"{word}-"):
            path: Path = getattr(folder, name)[step["item"]]
            return path.name
    return ""


def line(*cells: str) -> str:
    """One row of the table."""
    name, text, held, cost = cells
    short = text if len(text) <= 48 else f"{text[:47]}…"
    return f"{name:<14} {short:<48} {held:>9} {cost:>13}"


def money(amount_nano: int) -> str:
    """An amount with all its nine places."""
    return f"{amount_nano // 10**9}.{amount_nano % 10**9:09d}"


def answers(http: httpx.Client, found: list[Document], questions: Sequence[str]) -> Iterator[str]:
    """The best file for each question, and how well it fits."""
    for question in questions:
        hits, _ = run(http, "search", {"question": question, "index": found})
        best = ", ".join(f"{hit['file']} {hit['score']:.2f}" for hit in hits)
        yield f"{question!r}: {best}"


def show(url: str, places: Sequence[Path], questions: Sequence[str]) -> Iterator[str]:
    """All that there is to see."""
    folder = Folder.of(places)
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as http:
        found, document = index(http, folder)
        yield from cost_lines(folder, found, document)
        yield ""
        yield from answers(http, found, questions)


def main() -> None:
    """`python examples/album/run.py FOLDER ...`"""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[HERE / "files"])
    parser.add_argument("--ask", action="append", help="what to search for")
    given = parser.parse_args()
    for text in show(chosen_target().url, given.folders, given.ask or QUESTIONS):
        sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
