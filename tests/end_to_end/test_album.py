"""The example: a folder of mixed files through one workflow, with the library's models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from live_node import Document, LiveNode, StartNode

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "functions" / "library"
ALBUM = ROOT / "examples" / "album"
FILES = [
    *("cat.jpg", "coffee.jpg", "speech.ogg", "chord.ogg"),
    *("bicycle.txt", "pancakes.txt", "rent.txt"),
]
QUESTIONS = {
    "a cat": "cat.jpg",
    "something hot to drink": "coffee.jpg",
    "who is talking?": "speech.ogg",
    "what do I need for breakfast?": "pancakes.txt",
}


def send(node: LiveNode) -> list[str]:
    """Sends the folder, and asks; what is printed."""
    asked = [word for question in QUESTIONS for word in ("--ask", question)]
    folders = (LIBRARY / "samples", ALBUM / "files")
    command = [sys.executable, str(ALBUM / "run.py"), *map(str, folders), *asked]
    done = subprocess.run(
        command, env={**os.environ, "DSFN_URL": node.url}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def last_run(node: LiveNode) -> Document:
    """The document of the last run of `index-folder`."""
    runs = node.http.get("/runs", params={"workflow": "index-folder"}).json()["runs"]
    document: Document = node.http.get(f"/runs/{runs[0]['id']}").json()
    return document


def test_a_folder_becomes_an_index_that_finds_its_files_and_says_what_each_cost(
    start: StartNode,
) -> None:
    node = start(setup_timeout_s=120, discover_timeout_s=60)
    for name in ("classify", "speech", "embed"):
        node.deploy(LIBRARY / f"{name}.py")
    node.deploy(ALBUM / "app.py")
    lines = send(node)
    rows, answers = lines[1:10], lines[11:]
    assert [row.split()[0] for row in rows[:7]] == FILES
    for (question, file), answer in zip(QUESTIONS.items(), answers, strict=True):
        assert answer.startswith(f"{question!r}: {file} ")
    run = last_run(node)
    assert (run["state"], len(run["steps"])) == ("succeeded", 19)
    nano = [int(re.findall(r"\d+\.\d{9}", row)[0].replace(".", "")) for row in rows]
    assert all(cost > 0 for cost in nano)
    assert sum(nano[:-1]) == nano[-1] == run["cost"]["amount_nano"]
    send(node)
    cached = [step for step in last_run(node)["steps"] if step["cached"]]
    assert [s["function"] for s in cached] == ["classify"] * 2 + ["detect-speech"] * 2
    assert all(step["cost"]["amount_nano"] == step["attempts"] == 0 for step in cached)
