"""`dsfn workflow`, `runs` and `deadletters` against a real node."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from cli_documents import assert_shape, documented
from cli_runs import Dsfn, Run, serving

SOURCE = '''
import time
from pathlib import Path

import dsfn


@dsfn.function
def spell(word: str) -> int:
    print(f"spelling {word}")
    if word == "bad" and not Path("{place}", "mended").exists():
        raise ValueError("a bad word")
    return len(word)


@dsfn.function
def add(numbers: list[int]) -> int:
    return sum(numbers)


@dsfn.function
def cry(text: dsfn.Text) -> dsfn.Text:
    return dsfn.Text(text.upper())


@dsfn.function
def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@dsfn.function
def name_of(file: dsfn.File) -> str:
    return str(file.name)


@dsfn.workflow(tags=("words",))
def letters(words: list[str]) -> int:
    """Counts letters."""
    return add(dsfn.map(spell, words, parallel=1))


@dsfn.workflow
def shout(text: dsfn.Text) -> dsfn.Text:
    return cry(text)


@dsfn.workflow
def patience(seconds: float) -> float:
    return wait(wait(seconds))


@dsfn.workflow
def files(folder: list[dsfn.File], note: dsfn.Text) -> list[str]:
    return dsfn.map(name_of, folder)
'''


@pytest.fixture(scope="module")
def dsfn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsfn]:
    """A node with the workflows above."""
    with serving(tmp_path_factory.mktemp("workflows"), SOURCE) as command_line:
        yield command_line


def letters(dsfn: Dsfn, *words: str) -> Run:
    return dsfn("workflow", "run", "letters", "--data", json.dumps({"words": words}))


def failed(dsfn: Dsfn) -> str:
    """The id of a run that failed at its second word."""
    (dsfn.directory / "mended").unlink(missing_ok=True)
    assert letters(dsfn, "good", "bad").code == 1
    return str(dsfn("runs", "list", "--json").json()["runs"][0]["id"])


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_workflows_are_listed_described_and_have_a_history(dsfn: Dsfn) -> None:
    found = dsfn("workflow", "list", "--json").json()
    assert_shape(found, documented("dsfn workflow list"))
    assert [w["name"] for w in found] == ["files", "letters", "patience", "shout"]
    assert dsfn("workflow", "list").out.startswith("NAME")
    shown = dsfn("workflow", "show", "letters", "--json").json()
    assert_shape(shown, documented("dsfn workflow show"))
    assert (shown["functions"], shown["tags"]) == (["spell", "add"], ["words"])
    history = dsfn("workflow", "history", "letters", "--json").json()
    assert_shape(history, documented("dsfn workflow history"))
    assert shown["revision"] in dsfn("workflow", "history", "letters").out


def test_a_workflow_is_drawn_as_text_mermaid_and_svg(dsfn: Dsfn) -> None:
    text = dsfn("workflow", "show", "letters").out
    assert "description: Counts letters." in text
    drawn = text.partition("\n\n")[2].splitlines()
    assert drawn[0] == "words  json"
    assert any(line.startswith("│ spell") for line in drawn)
    assert dsfn("workflow", "show", "letters", "--format", "mermaid").out.startswith("flowchart TD")
    ElementTree.fromstring(dsfn("workflow", "show", "letters", "--format", "svg").out)
    assert dsfn("workflow", "show", "letters", "--format", "svg", "--json").code == 2


def test_an_unknown_name_or_id_is_one_sentence(dsfn: Dsfn) -> None:
    for command in (
        ("workflow", "show", "nobody"),
        ("workflow", "run", "nobody"),
        ("workflow", "history", "nobody"),
        ("workflow", "delete", "nobody"),
        ("runs", "show", "nobody"),
        ("runs", "show", "nobody", "-f"),
        ("runs", "cancel", "nobody"),
        ("runs", "retry", "nobody"),
        ("runs", "logs", "nobody"),
        ("deadletters", "show", "nobody"),
        ("deadletters", "replay", "nobody"),
    ):
        run = dsfn(*command)
        assert (run.code, run.out, run.err.count("\n")) == (1, "", 1), command
        assert "'nobody'" in run.err


def test_a_result_is_printed_as_a_functions_is(dsfn: Dsfn) -> None:
    assert letters(dsfn, "one", "three").out == "8\n"
    (dsfn.directory / "note.txt").write_text("quiet")
    assert dsfn("workflow", "run", "shout", "--file", "note.txt").out == "QUIET"
    run = dsfn("workflow", "run", "shout", "--file", "note.txt", "--output", "loud.txt")
    assert (run.code, run.out) == (0, "")
    assert (dsfn.directory / "loud.txt").read_text() == "QUIET"


def test_parts_are_sent_as_a_form_and_a_list_may_have_several(dsfn: Dsfn) -> None:
    for name in ("one.bin", "two.bin"):
        (dsfn.directory / name).write_bytes(b"\x00\x01")
    parts = ("--part", "folder=@one.bin", "--part", "folder=@two.bin", "--part", "note=hello")
    assert json.loads(dsfn("workflow", "run", "files", *parts).out) == ["one.bin", "two.bin"]
    for wrong in (("--part", "note"), ("--part", "a=@nowhere"), (*parts, "--data", "{}")):
        assert dsfn("workflow", "run", "files", *wrong).code == 2


def test_a_run_as_json_is_the_documented_document(dsfn: Dsfn) -> None:
    document = dsfn("workflow", "run", "letters", "--data", '{"words": ["a"]}', "--json").json()
    assert_shape(document, documented("dsfn workflow run"))
    assert (document["state"], document["output"]) == ("succeeded", 1)
    shown = dsfn("runs", "show", document["id"], "--json").json()
    assert_shape(shown, documented("dsfn runs show"))
    assert shown == document


def test_a_run_that_fails_is_one_sentence_after_the_authors_traceback(dsfn: Dsfn) -> None:
    (dsfn.directory / "mended").unlink(missing_ok=True)
    run = letters(dsfn, "bad")
    assert (run.code, run.out) == (1, "")
    sentence = r"Step spell\[0\] of run \w+: ValueError: a bad word"
    assert re.fullmatch(sentence, run.err.splitlines()[-1])
    assert "Traceback" in run.err
    followed = dsfn("workflow", "run", "letters", "-f", "--data", '{"words": ["bad"]}')
    assert (followed.code, followed.out) == (1, "")
    assert re.fullmatch(sentence, followed.err.splitlines()[-1])


def test_a_run_is_started_and_not_waited_for(dsfn: Dsfn) -> None:
    id_ = dsfn("workflow", "run", "letters", "--async", "--data", '{"words": []}').out.strip()
    followed = dsfn("runs", "show", id_, "--follow").out.splitlines()
    assert re.fullmatch(rf"run {id_} succeeded, .*", followed[-1])
    document = dsfn(
        "workflow", "run", "letters", "--async", "--json", "--data", '{"words": []}'
    ).json()
    assert_shape(document, documented("dsfn runs list")["runs"][0])
    assert dsfn("workflow", "run", "letters", "--async", "--follow").code == 2


def test_a_run_that_is_followed_tells_each_change_on_standard_error(dsfn: Dsfn) -> None:
    run = dsfn("workflow", "run", "patience", "--follow", "--data", '{"seconds": 0.5}')
    assert (run.code, run.out) == (0, "0.5\n")
    first, *_, last = run.err.splitlines()
    assert re.fullmatch(r"run \w+ running, [0-9.]+ USD", first)
    assert re.search(r"^wait-2 succeeded, [0-9.]+ ms, [0-9.]+ USD$", run.err, re.M)
    assert re.fullmatch(r"run \w+ succeeded, [0-9.]+ s, [0-9.]+ USD", last)


def test_changes_as_json_are_one_document_a_line(dsfn: Dsfn) -> None:
    id_ = dsfn("workflow", "run", "patience", "--async", "--data", '{"seconds": 0.2}').out.strip()
    lines = dsfn("runs", "show", id_, "-f", "--json").out.splitlines()
    documents = [json.loads(line) for line in lines]
    assert all(set(each) in ({"run"}, {"step"}) for each in documents)
    assert documents[-1]["run"]["state"] == "succeeded"


def test_a_run_is_drawn_with_states_times_and_costs(dsfn: Dsfn) -> None:
    assert letters(dsfn, "one", "two").code == 0
    id_ = dsfn("runs", "list", "--limit", "1", "--json").json()["runs"][0]["id"]
    text = dsfn("runs", "show", id_).out
    assert f"run: {id_}" in text
    assert "state: succeeded" in text
    assert re.search(r"^│ spell +succeeded +2, [0-9.]+ m?s, [0-9.]+ USD$", text, re.M)
    assert "succeeded" in dsfn("runs", "show", id_, "--format", "mermaid").out
    ElementTree.fromstring(dsfn("runs", "show", id_, "--format", "svg").out)


def test_a_run_is_drawn_live_on_a_terminal(dsfn: Dsfn) -> None:
    id_ = dsfn("workflow", "run", "patience", "--async", "--data", '{"seconds": 4}').out.strip()
    ours, theirs = pty.openpty()
    variables = {**os.environ, **dsfn.variables, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "dsfn", "runs", "show", id_, "-f"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=variables,
        cwd=dsfn.directory,
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
        assert process.wait(30) == 0
    os.close(ours)
    assert "running" in shown
    assert "\x1b[" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.rpartition("workflow")[2])
    # Of the run and its two steps, and of the calls of each below the picture.
    assert last.count("succeeded") == 5
    assert "running" not in last


def test_runs_are_listed_of_one_workflow_in_one_state_page_by_page(dsfn: Dsfn) -> None:
    for word in ("a", "b", "c"):
        assert dsfn("workflow", "run", "shout", "--data", json.dumps({"text": word})).code == 0
    chosen = ("--workflow", "shout", "--state", "succeeded", "--limit", "2")
    first = dsfn("runs", "list", *chosen, "--json").json()
    assert_shape(first, documented("dsfn runs list"))
    assert len(first["runs"]) == 2
    rest = dsfn("runs", "list", *chosen, "--before", first["next"], "--json").json()
    assert rest["runs"][0]["id"] < first["runs"][1]["id"]
    assert f"add --before {first['next']}" in dsfn("runs", "list", *chosen).out
    assert dsfn("runs", "list", "--state", "lost").code == 2
    assert dsfn("runs", "list", "--workflow", "nobody").out == "There are no such runs.\n"


def test_a_run_is_called_off(dsfn: Dsfn) -> None:
    for more in ((), ("--json",)):
        started = dsfn("workflow", "run", "patience", "--async", "--data", '{"seconds": 20}')
        id_ = started.out.strip()
        assert started.code == 0
        run = dsfn("runs", "cancel", id_, *more)
        if more:
            assert_shape(run.json(), documented("dsfn runs cancel"))
        else:
            assert run.out in (
                f"Run {id_} is cancelled.\n",
                f"Run {id_} ends once its calls have stopped.\n",
            )
        assert dsfn("runs", "show", id_, "-f").code == 0
        assert dsfn("runs", "show", id_, "--json").json()["state"] == "cancelled"
        assert dsfn("runs", "cancel", id_).code == 1


def test_a_failed_run_is_tried_again(dsfn: Dsfn) -> None:
    old = failed(dsfn)
    (dsfn.directory / "mended").touch()
    document = dsfn("runs", "retry", old, "--json").json()
    assert_shape(document, documented("dsfn runs retry"))
    assert document["retry_of"] == old
    assert dsfn("runs", "show", document["id"], "-f").code == 0
    shown = dsfn("runs", "show", document["id"], "--json").json()
    assert (shown["state"], shown["output"]) == ("succeeded", 7)
    spelled = {s["item"]: s["attempts"] for s in shown["steps"] if s["id"] == "spell"}
    assert spelled == {0: 0, 1: 1}
    assert f"retry of: {old}" in dsfn("runs", "show", document["id"]).out


def test_a_run_has_the_lines_that_its_calls_printed(dsfn: Dsfn) -> None:
    document = dsfn("workflow", "run", "letters", "--data", '{"words": ["mine"]}', "--json").json()
    letters(dsfn, "theirs")
    lines = wait_for(lambda: dsfn("runs", "logs", document["id"], "--json").json())
    assert_shape(lines, documented("dsfn runs logs"))
    assert [(line["step"], line["item"], line["text"]) for line in lines] == [
        ("spell", 0, "spelling mine")
    ]
    assert dsfn("runs", "logs", document["id"], "-f").out.endswith(" spell[0] spelling mine\n")


def test_dead_letters_are_listed_shown_and_replayed(dsfn: Dsfn) -> None:
    id_ = failed(dsfn)
    listed = dsfn("deadletters", "list", "--json").json()
    assert_shape(listed, documented("dsfn deadletters list"))
    assert listed["deadletters"][0]["id"] == id_
    assert "a bad word" in dsfn("deadletters", "list").out
    shown = dsfn("deadletters", "show", id_, "--json").json()
    assert_shape(shown, documented("dsfn deadletters show"))
    assert "step: spell" in dsfn("deadletters", "show", id_).out
    (dsfn.directory / "mended").touch()
    replayed = dsfn("deadletters", "replay", id_, "--json").json()
    assert_shape(replayed, documented("dsfn deadletters replay"))
    new = replayed["location"].removeprefix("/runs/")
    assert dsfn("runs", "show", new, "-f").out.splitlines()[-1].startswith(f"run {new} succeeded")
    assert dsfn("deadletters", "show", id_).code == 1


def test_a_dead_event_is_shown_with_its_data(dsfn: Dsfn) -> None:
    dsfn("subscribe", "spell", "--exact", "type=word")
    url = dsfn("status", "--json").json()["url"]
    document = {
        "specversion": "1.0",
        "id": "7",
        "source": "/cli",
        "type": "word",
        "data": {"word": 7},
    }
    headers = {"Content-Type": "application/cloudevents+json"}
    httpx.post(f"{url}/events", content=json.dumps(document), headers=headers, trust_env=False)

    def letter() -> Any:
        found = dsfn("deadletters", "list", "--json").json()["deadletters"]
        return next((each for each in found if each["kind"] == "event"), None)

    id_ = wait_for(letter)["id"]
    assert '"word": 7' in dsfn("deadletters", "show", id_).out
    shown = dsfn("deadletters", "show", id_, "--json").json()
    assert_shape(shown, documented("dsfn deadletters show"))
    assert dsfn("deadletters", "replay", id_).out == f"{id_}\n"


def test_names_and_ids_are_completed_from_the_node(dsfn: Dsfn) -> None:
    assert letters(dsfn, "a").code == 0
    id_ = dsfn("runs", "list", "--limit", "1", "--json").json()["runs"][0]["id"]

    def completed(words: str) -> str:
        given = dsfn.given(
            _DSFN_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
        )
        return given().out

    assert completed("dsfn workflow run le").split() == ["letters"]
    assert id_ in completed("dsfn runs show ").split()
    assert completed("dsfn runs list --workflow pa").split() == ["patience"]
    assert completed("dsfn deadletters sh").split() == ["show"]


def test_a_deleted_workflow_is_gone_and_its_runs_are_not(dsfn: Dsfn) -> None:
    (dsfn.directory / "short.py").write_text(
        "import dsfn\n\n\n@dsfn.function\ndef one() -> int:\n    return 1\n\n\n"
        "@dsfn.workflow\ndef short() -> int:\n    return one()\n"
    )
    assert dsfn("deploy", "short.py").code == 0
    id_ = dsfn("workflow", "run", "short", "--json").json()["id"]
    deleted = dsfn("workflow", "delete", "short", "--json").json()
    assert_shape(deleted, documented("dsfn workflow delete"))
    assert dsfn("workflow", "run", "short").code == 1
    assert "one" in dsfn("runs", "show", id_).out


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other end has closed
        return b""


def test_a_plan_is_explained_drawn_and_saved(dsfn: Dsfn) -> None:
    asked = ("workflow", "plan", "--input", "note=text/plain", "--output", "text/plain")
    told = dsfn(*asked, "--want", "cry").out
    assert "'cry' is met by cry, by its name." in told
    assert "│ cry" in told or "cry " in told
    assert "It is not saved" in told
    document = dsfn(
        *asked, "--want", "cry", "--optimise", "cost", "--save", "loud", "--json"
    ).json()
    assert_shape(document, documented("dsfn workflow plan"))
    assert document["saved"]["name"] == "loud"
    (dsfn.directory / "note.txt").write_text("quiet")
    assert dsfn("workflow", "run", "loud", "--part", "note=@note.txt").out == "QUIET"
    dsfn("workflow", "delete", "loud")


def test_no_plan_and_mistakes_are_one_sentence(dsfn: Dsfn) -> None:
    run = dsfn("workflow", "plan", "--input", "text/plain", "--output", "video/mp4")
    assert (run.code, run.out, run.err.count("\n")) == (1, "", 1)
    assert "No function gives video/mp4." in run.err
    for wrong in (("--output", "text/plain"), ("--input", "text/plain")):
        assert dsfn("workflow", "plan", *wrong).code == 2
