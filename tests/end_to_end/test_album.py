"""The example: a folder of mixed files through one workflow, with the library's models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_node import LiveNode, StartNode

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "album"))

import run as album

LIBRARY = ROOT / "functions" / "library"
PLACES = (LIBRARY / "samples", ROOT / "examples" / "album" / "files")
QUESTIONS = {
    "a cat": "cat.jpg",
    "something hot to drink": "coffee.jpg",
    "who is talking?": "speech.ogg",
    "what do I need for breakfast?": "pancakes.txt",
}


@pytest.fixture
def node(start: StartNode) -> Iterator[LiveNode]:
    node = start(setup_timeout_s=120, discover_timeout_s=60)
    for name in ("classify", "speech", "embed"):
        node.deploy(LIBRARY / f"{name}.py")
    node.deploy(ROOT / "examples" / "album" / "app.py")
    yield node


def test_a_folder_becomes_an_index_that_finds_its_files_and_says_what_each_cost(
    node: LiveNode,
) -> None:
    folder = album.Folder.of(PLACES)
    assert {name: len(paths) for name, paths in folder.lists().items()} == {
        "photos": 2,
        "recordings": 2,
        "notes": 3,
    }
    found, run = album.index(node.http, folder)
    assert (run["state"], len(run["steps"])) == ("succeeded", 22)
    for question, file in QUESTIONS.items():
        hits, _ = album.run(node.http, "search", {"question": question, "index": found})
        assert hits[0]["file"] == file, question
    costs = [step["cost"]["amount_nano"] for step in run["steps"]]
    assert all(cost > 0 for cost in costs)
    assert sum(costs) == run["cost"]["amount_nano"]
    lines = list(album.cost_lines(folder, found, run))
    assert [line.split()[0] for line in lines[1:8]] == [
        path.name for paths in folder.lists().values() for path in paths
    ]
    again, second = album.index(node.http, folder)
    assert again == found
    cached = [step["function"] for step in second["steps"] if step["cached"]]
    assert cached == ["classify"] * 2 + ["detect-speech"] * 2
    assert all(s["cost"]["amount_nano"] == 0 for s in second["steps"] if s["cached"])
