"""Every command against a real node."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_documents import assert_shape, documented
from cli_runs import Dsfn

from dsfn.runtime.cli import daemon

SOURCE = '''
from collections.abc import Iterator

import torch

import dsfn


@dsfn.function
def greet(name: str = "you") -> str:
    """Greets."""
    print(f"greeting {name}")
    return f"{greeting}, {name}"


@dsfn.function
def shout(text: dsfn.Text) -> dsfn.Text:
    return dsfn.Text(text.upper())


@dsfn.function
def picture(side: int) -> dsfn.Image:
    from PIL import Image

    return dsfn.Image.of(Image.new("RGB", (side, side)))


@dsfn.function
def count(to: int) -> Iterator[int]:
    yield from range(to)


@dsfn.function
def spell(word: str) -> Iterator[dsfn.Text]:
    for letter in word:
        yield dsfn.Text(letter)


@dsfn.function
def fail() -> None:
    raise ValueError("this is how it fails")


@dsfn.function(name="weigh")
class Weigh:
    def setup(self) -> None:
        self.weights = torch.ones(1000)

    def __call__(self) -> float:
        return float(self.weights.sum())
'''


LOWERED = """
import dsfn
import torch


@dsfn.function(precision="int8")
class Lowered:
    def setup(self) -> None:
        self.model = torch.nn.Linear(256, 64)

    def sample(self) -> dict[str, object]:
        return {"value": 2.0}

    def __call__(self, value: float) -> list[float]:
        return self.model(torch.linspace(-value, value, 256)).tolist()
"""


@pytest.fixture(scope="module")
def dsfn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsfn]:
    """A node with the functions above deployed, their greeting being `hello`."""
    directory = tmp_path_factory.mktemp("cli")
    command_line = Dsfn(directory, {"DSFN_DATA": str(directory / "data")})
    node = command_line("up", "--detach", "--port", "0", "--json").json()
    assert_shape(node, documented("dsfn up"))
    try:
        deployed = deploy(command_line, "hello")
        assert_shape(deployed, documented("dsfn deploy"))
        yield command_line
    finally:
        assert_shape(command_line("down", "--json").json(), documented("dsfn down"))


def deploy(dsfn: Dsfn, greeting: str) -> Any:
    """Deploys the functions with this greeting."""
    (dsfn.directory / "app.py").write_text(f"{SOURCE}\n\ngreeting = {greeting!r}\n")
    return dsfn("deploy", "app.py", "--json").json()


def test_the_status_and_the_list_have_the_documented_shape(dsfn: Dsfn) -> None:
    status = dsfn("status", "--json").json()
    assert_shape(status, documented("dsfn status"))
    assert status["functions"] == 7
    functions = dsfn("list", "--json").json()
    assert_shape(functions, documented("dsfn list"))
    assert {"greet", "weigh"} < {f["name"] for f in functions}
    assert "functions: 7" in dsfn("status").out
    assert dsfn("list").out.startswith("NAME")


def test_the_same_source_again_is_the_same_revision(dsfn: Dsfn) -> None:
    first, again = deploy(dsfn, "hello"), deploy(dsfn, "hello")
    assert [d["revision"] for d in first] == [d["revision"] for d in again]
    assert not any(d["created"] for d in again)
    run = dsfn("deploy", "app.py")
    assert "(unchanged)" in run.out
    assert "discover: Importing app.py." in run.err


def test_on_a_terminal_there_are_tables_and_progress(dsfn: Dsfn) -> None:
    ours, theirs = pty.openpty()
    variables = {**dsfn.variables, "TERM": "xterm", "COLUMNS": "120"}
    with process(variables, "deploy", "app.py", terminal=theirs):
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
    os.close(ours)
    assert "publish: " in shown
    assert "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in shown
    assert "\x1b[" in shown


def test_a_source_that_fails_shows_its_authors_own_traceback(dsfn: Dsfn) -> None:
    (dsfn.directory / "broken.py").write_text("import dsfn\n\nimport no_such_module\n")
    run = dsfn("deploy", "broken.py", "--json")
    assert (run.code, run.out) == (1, "")
    assert 'broken.py", line 3, in <module>' in run.err
    assert "No module named 'no_such_module'" in run.err
    assert "/runtime/" not in run.err


def test_a_path_that_is_not_there_is_one_sentence(dsfn: Dsfn) -> None:
    run = dsfn("deploy", "nowhere.py")
    assert (run.code, run.err.count("\n")) == (1, 1)


def test_a_json_result_is_printed_and_has_the_documented_shape(dsfn: Dsfn) -> None:
    assert dsfn("invoke", "greet", "--data", '{"name": "Ada"}').out == '"hello, Ada"\n'
    assert dsfn("invoke", "greet").out == '"hello, you"\n'
    answer = dsfn("invoke", "greet", "--json").json()
    assert_shape(answer, documented("dsfn invoke"))
    assert answer["result"] == "hello, you"
    assert answer["charge"]["busy_us"] > 0
    phases_us = [us for name, us in answer["phases_us"].items() if "." not in name]
    assert answer["total_us"] >= sum(phases_us) > 0


def test_characters_that_the_output_cannot_hold_are_escaped(dsfn: Dsfn) -> None:
    variables = {**dsfn.variables, "PYTHONIOENCODING": "ascii"}
    with process(variables, "invoke", "greet", "--data", '{"name": "grün"}') as run:
        out, errors = run.communicate(timeout=20)
    assert (out, errors) == ('"hello, gr\\xfcn"\n', "")


def test_a_file_is_sent_as_what_its_name_says_and_text_comes_back(dsfn: Dsfn) -> None:
    (dsfn.directory / "words.txt").write_text("grün")
    assert dsfn("invoke", "shout", "--file", "words.txt").out == "GRÜN"
    answer = dsfn("invoke", "shout", "--file", "words.txt", "--json").json()
    assert answer["result"] == "GRÜN"


def test_a_picture_goes_to_a_pipe_a_file_or_a_document(dsfn: Dsfn) -> None:
    arguments = ("invoke", "picture", "--data", '{"side": 3}')
    piped = dsfn(*arguments).raw
    assert piped.startswith(b"\x89PNG")
    written = dsfn(*arguments, "--output", "out.png")
    assert (written.out, written.err) == ("", f"{len(piped)} B of image/png are in out.png.\n")
    assert (dsfn.directory / "out.png").read_bytes() == piped
    answer = dsfn(*arguments, "--json").json()
    assert (answer["result"], base64.b64decode(answer["result_base64"])) == (None, piped)
    answer = dsfn(*arguments, "--output", "out.png", "--json").json()
    assert (answer["output"], answer["bytes"]) == ("out.png", len(piped))


def test_a_picture_is_not_printed_on_a_terminal(
    dsfn: Dsfn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.runtime.cli.result.on_terminal", lambda: True)
    run = dsfn("invoke", "picture", "--data", '{"side": 3}')
    assert run.out == ""
    assert "bytes of image/png; use --output FILE." in run.err


def test_streams_are_lines_of_json_or_one_text(dsfn: Dsfn) -> None:
    assert dsfn("invoke", "count", "--data", '{"to": 3}').out == "0\n1\n2\n"
    assert dsfn("invoke", "count", "--data", '{"to": 3}', "--json").json()["result"] == [0, 1, 2]
    assert dsfn("invoke", "spell", "--data", '{"word": "abc"}').out == "abc\n"


def test_an_event_is_answered_by_an_event_and_its_repeat_is_replayed(dsfn: Dsfn) -> None:
    arguments = ("invoke", "greet", "--event", "--type", "a.b", "--source", "/c", "--id", "d")
    event = json.loads(dsfn(*arguments, "--data", '{"name": "Ada"}').out)
    assert (event["specversion"], event["causationid"]) == ("1.0", "d")
    assert event["data"] == "hello, Ada"
    again = dsfn(*arguments, "--data", '{"name": "Ada"}', "--json").json()
    assert (again["replayed"], again["result"]["data"]) == (True, "hello, Ada")


def test_a_call_for_later_prints_its_id_or_waits_for_its_result(dsfn: Dsfn) -> None:
    call_id = dsfn("invoke", "greet", "--async").out.strip()
    assert call_id
    waited = dsfn("invoke", "greet", "--async", "--wait")
    assert waited.out == '"hello, you"\n'
    invocation = dsfn("invoke", "greet", "--async", "--json").json()
    assert_shape(invocation, documented("dsfn invoke", 1))
    answer = dsfn("invoke", "greet", "--async", "--wait", "--json").json()
    assert_shape(answer, documented("dsfn invoke"))


def test_a_function_that_raises_shows_its_traceback(dsfn: Dsfn) -> None:
    for more in ((), ("--async", "--wait")):
        run = dsfn("invoke", "fail", *more)
        assert (run.code, run.out) == (1, "")
        assert "ValueError: this is how it fails" in run.err
        assert "/runtime/" not in run.err


def test_a_wrong_argument_is_a_sentence_that_names_it(dsfn: Dsfn) -> None:
    run = dsfn("invoke", "count", "--data", '{"to": "many"}')
    assert (run.code, run.err.count("\n")) == (1, 1)
    assert "'to'" in run.err


def test_timing_draws_the_phases_beside_the_result(dsfn: Dsfn) -> None:
    run = dsfn("invoke", "greet", "--timing")
    assert run.out == '"hello, you"\n'
    names = [line.split()[0] for line in run.err.splitlines()]
    assert names == ["queue", "start", "restore", "execute", "transport", "total"]


def test_logs_are_shown_and_followed(dsfn: Dsfn) -> None:
    dsfn("invoke", "greet", "--data", '{"name": "logs"}')
    wait_for(lambda: "greeting logs" in dsfn("logs", "greet").out)
    lines = dsfn("logs", "greet", "--since", "1h", "--json").json()
    assert_shape(lines, documented("dsfn logs"))
    with process(dsfn.variables, "logs", "greet", "-f", "--json") as follower:
        assert follower.stdout is not None
        while "greeting logs" not in follower.stdout.readline():
            pass
        dsfn("invoke", "greet", "--data", '{"name": "followers"}')
        followed = json.loads(follower.stdout.readline())
        assert_shape([followed], documented("dsfn logs"))
        assert followed["text"] == "greeting followers"
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=10)
        assert (follower.returncode, errors) == (130, "")


def test_a_function_is_described(dsfn: Dsfn) -> None:
    dsfn("invoke", "weigh")
    subscribed = dsfn(
        "subscribe", "weigh", "--exact", "type=a.b", "--prefix", "source=/c", "--json"
    )
    subscription = subscribed.json()
    assert_shape(subscription, documented("dsfn subscribe"))
    described = dsfn("describe", "weigh", "--json").json()
    assert_shape(described, documented("dsfn describe"))
    assert described["subscriptions"] == [subscription]
    assert described["snapshot"]["bytes"] > 4000
    text = dsfn("describe", "weigh").out
    assert "events whose type = a.b and source begins with /c" in text
    assert "PID" in text
    ended = dsfn("unsubscribe", subscription["id"], "--json").json()
    assert_shape(ended, documented("dsfn unsubscribe"))
    assert dsfn("unsubscribe", subscription["id"]).code == 1
    assert dsfn("subscribe", "weigh", "--suffix", "type=.b").code == 0


def test_what_lower_precision_costs_is_shown(dsfn: Dsfn) -> None:
    (dsfn.directory / "lowered.py").write_text(LOWERED)
    (deployed,) = dsfn("deploy", "lowered.py", "--json").json()
    shown = documented("dsfn describe")["snapshot"]
    assert_shape(deployed["snapshot"], shown)
    described = dsfn("describe", "lowered", "--json").json()
    assert described["snapshot"] == deployed["snapshot"]
    precision = described["snapshot"]["precision"]
    assert (precision["kind"], precision["bytes_before"]) == ("int8", 65792)
    off = f"numbers are off by {100 * precision['relative_error']:.3g} %"
    assert "In int8 its tensors take 16.9 kB instead of 65.8 kB" in dsfn("describe", "lowered").out
    assert off in dsfn("describe", "lowered").out
    assert f"in int8: {off}" in dsfn("deploy", "lowered.py").out
    assert dsfn("delete", "lowered").code == 0


def test_a_new_revision_takes_over_and_is_rolled_back(dsfn: Dsfn) -> None:
    deploy(dsfn, "hello")
    assert dsfn("invoke", "greet").out == '"hello, you"\n'
    deploy(dsfn, "good day")
    assert dsfn("invoke", "greet").out == '"good day, you"\n'
    history = dsfn("history", "greet", "--json").json()
    assert_shape(history, documented("dsfn history"))
    new, old = (entry["revision"] for entry in history[:2])
    assert dsfn("history", "greet").out.startswith("REVISION")
    shared = dsfn("traffic", "greet", f"{new}=30", f"{old}=70", "--json").json()
    assert_shape(shared, documented("dsfn traffic"))
    assert shared["traffic"] == {new: 30, old: 70}
    assert f"{old}: 70 %" in dsfn("traffic", "greet", f"{new}=30", f"{old}=70").out
    back = dsfn("rollback", "greet", old, "--json").json()
    assert_shape(back, documented("dsfn rollback"))
    assert dsfn("invoke", "greet").out == '"hello, you"\n'


def test_the_bill_counts_what_was_called(dsfn: Dsfn) -> None:
    dsfn("invoke", "weigh")
    for by in ("function", "revision", "day"):
        bill = dsfn("bill", "report", "--by", by, "--json").json()
        if by == "function":
            assert_shape(bill, documented("dsfn bill report"))
        else:
            assert all(line[by] for line in bill["lines"])
        assert "Total of" in dsfn("bill", "report", "--by", by).out
    for by in ("run", "step", "workflow"):
        shown = dsfn("bill", "report", "--tenant", "default", "--by", by).out
        heads, *lines = shown.splitlines()
        assert heads.lower().split()[:3] == [by, "function", "device"]
        assert ["-", "weigh", "cpu"] in [line.split()[:3] for line in lines]
    assert dsfn("bill", "report", "--csv").out.startswith("month,")
    assert "Nothing was used in 2001-01." in dsfn("bill", "report", "--month", "2001-01").out
    assert dsfn("bill", "report", "--month", "May").code == 2


def test_rate_cards_are_set_listed_and_shown(dsfn: Dsfn) -> None:
    file = dsfn.directory / "card.toml"
    file.write_text(
        "effective_from = 2127-01-01T00:00:00.25Z\n[devices.cpu]\npico_per_second = 5\n"
    )
    checked = dsfn("rates", "check", str(file), "--json").json()
    assert_shape(checked, documented("dsfn rates check"))
    card = dsfn("rates", "set", str(file), "--json").json()
    assert_shape(card, documented("dsfn rates set"))
    assert (card["card"], card["sha256"]) == (checked["card"], checked["sha256"])
    assert not card["in_force"]
    listed = dsfn("rates", "list", "--json").json()
    assert_shape(listed, documented("dsfn rates list"))
    sources = {each["number"]: each["source"] for each in listed["rates"]}
    number = card["number"]
    assert (sources[1], sources[number]) == ("configuration", "set")
    shown = dsfn("rates", "show", str(number), "--json").json()
    assert_shape(shown, documented("dsfn rates show"))
    assert shown == card
    assert dsfn("rates", "show", "--json").json()["number"] == 1
    table = dsfn("rates", "list").out.splitlines()
    (first,) = (line for line in table if "the beginning" in line)
    (second,) = (line for line in table if line.split()[:1] == [str(number)])
    assert ":00:00.25" in first and ":00:00.25" in second, "until when, and from when on"
    assert "0.000000000005" in dsfn("rates", "show", str(number)).out


def test_a_rate_card_that_does_not_fit_the_others_is_refused_in_a_sentence(dsfn: Dsfn) -> None:
    file = dsfn.directory / "card.toml"
    moment, rate = "effective_from = 2128-01-01T00:00:00Z\n", "[default]\npico_per_second = 5\n"
    file.write_text(moment + rate)
    assert "is in force from 21" in dsfn("rates", "set", str(file)).out
    again = dsfn("rates", "set", str(file))
    assert (again.code, again.out) == (1, "")
    assert again.err == (
        "Another rate card begins at 2128-01-01T00:00:00Z; choose another moment.\n"
    )
    file.write_text(f'currency = "EUR"\n{rate}')
    assert "a ledger has one currency" in dsfn("rates", "set", str(file)).err
    file.write_text("tax = 5\n")
    assert dsfn("rates", "set", str(file)).err.startswith("devices must be there, or default")
    assert dsfn("rates", "show", "77").err == "There is no rate card 77.\n"


def test_keys_are_made_listed_used_and_revoked(dsfn: Dsfn) -> None:
    made = dsfn("keys", "create", "ci", "--tenant", "acme", "--expires", "90d", "--json").json()
    assert_shape(made, documented("dsfn keys create"))
    assert (made["tenant"], made["scopes"]) == ("acme", ["invoke", "read"])
    theirs = dsfn.given(DSFN_API_KEY=made["key"])
    assert theirs("invoke", "greet").out == '"hello, you"\n'
    refused = theirs("keys", "list")
    assert (refused.code, refused.err) == (1, "The API key may not do this.\n")
    assert dsfn("--key", "dsfn_wrong", "list").err == "The API key is not valid.\n"
    listed = dsfn("keys", "list", "--json").json()
    assert_shape(listed, documented("dsfn keys list"))
    assert listed["keys"][-1]["last_used"] is not None
    assert made["key"] not in dsfn("keys", "list").out
    limited = ("--scope", "invoke", "--function", "greet")
    shown = dsfn("keys", "create", "greeter", *limited).out
    assert "scopes: invoke (greet)" in shown and "expires: never" in shown
    revoked = dsfn("keys", "revoke", made["id"], "--json").json()
    assert_shape(revoked, documented("dsfn keys revoke"))
    assert theirs("list").err == "The API key is not valid.\n"
    assert "is revoked" in dsfn("keys", "revoke", made["id"]).out
    assert dsfn("keys", "revoke", "none").err == "There is no API key 'none'.\n"
    assert dsfn("keys", "create", "late", "--expires", "2001-01-01T00:00:00Z").code == 1
    assert dsfn("keys", "create", "late", "--expires", "soon").code == 2
    assert dsfn.given(DSFN_API_KEY="grün")("list").code == 2


def test_budgets_are_set_listed_and_removed(dsfn: Dsfn) -> None:
    scope = ("--tenant", "acme", "--function", "greet")
    made = dsfn("budgets", "set", "0.5", *scope, "--alert", "75", "--json").json()
    assert_shape(made, documented("dsfn budgets set"))
    assert (made["amount_nano"], made["alerts"]) == (500_000_000, [75])
    listed = dsfn("budgets", "list", "--json").json()
    assert_shape(listed, documented("dsfn budgets list"))
    assert "0.5 USD" in dsfn("budgets", "list", "--tenant", "acme").out
    assert dsfn("budgets", "list", "--tenant", "zoo").out == "There are no budgets.\n"
    told = dsfn("budgets", "set", "250", *scope, "--alert-only", "--total").out
    assert "stops: no" in told and "resets: never" in told and "amount: 250 USD" in told
    for each in dsfn("budgets", "list", "--json").json()["budgets"]:
        removed = dsfn("budgets", "remove", each["id"], "--json").json()
        assert_shape(removed, documented("dsfn budgets remove"))
    assert dsfn("budgets", "remove", made["id"]).code == 1
    for amount in ("-1", "much", "0.0000000001", "nan", "inf"):
        assert dsfn("budgets", "set", "--", amount).code == 2


def test_a_deleted_function_is_gone(dsfn: Dsfn) -> None:
    (dsfn.directory / "gone.py").write_text(
        "import dsfn\n\n\n@dsfn.function\ndef gone() -> int:\n    return 1\n"
    )
    assert dsfn("deploy", "gone.py").code == 0
    assert_shape(dsfn("delete", "gone", "--json").json(), documented("dsfn delete"))
    for command in ("invoke", "describe", "history", "delete", "rollback"):
        run = dsfn(command, "gone")
        assert (run.code, run.err) == (1, "There is no function 'gone'.\n")


def test_what_init_writes_can_be_deployed_and_called_as_its_readme_says(dsfn: Dsfn) -> None:
    written = dsfn("init", "triage", "--json").json()
    assert_shape(written, documented("dsfn init"))
    assert dsfn("deploy", "triage").code == 0
    scores = json.loads(
        dsfn("invoke", "triage", "--data", '{"message": "Where is my parcel?"}').out
    )
    assert max(scores, key=lambda name: float(scores[name])) == "delivery"


def test_the_doctor_finds_this_machine_and_node_well(dsfn: Dsfn) -> None:
    findings = dsfn("doctor", "--json").json()
    assert_shape(findings, documented("dsfn doctor"))
    states = {finding["check"]: finding["state"] for finding in findings}
    assert (states["fork server"], states["node"]) == ("ok", "ok")
    assert "CHECK" in dsfn("doctor").out


def test_a_result_that_cannot_be_written_is_a_sentence(dsfn: Dsfn) -> None:
    for line in (["list"], ["invoke", "shout", "--data", '{"text": "a"}'], ["invoke", "greet"]):
        done = subprocess.run(
            ["bash", "-c", '"$@" > /dev/full', "-", sys.executable, "-m", "dsfn", *line],
            env={**os.environ, **dsfn.variables},
            capture_output=True,
            text=True,
        )
        sentence = "The output could not be written: No space left on device.\n"
        assert (done.returncode, done.stderr) == (1, sentence)


def test_names_are_completed_from_the_node(dsfn: Dsfn) -> None:
    asked = dsfn.given(_DSFN_COMPLETE="complete_bash", COMP_WORDS="dsfn invoke sh", COMP_CWORD="2")
    assert asked().out.split() == ["shout"]


def test_a_second_node_on_the_directory_is_refused_in_a_sentence(dsfn: Dsfn) -> None:
    run = dsfn("up", "--port", "0")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("Another node already uses ")
    detached = dsfn("up", "--port", "0", "--detach")
    assert (detached.code, detached.err) == (run.code, run.err)


def test_a_taken_port_is_a_sentence(dsfn: Dsfn, tmp_path: Path) -> None:
    port = dsfn("status", "--json").json()["url"].rpartition(":")[2]
    run = dsfn("up", "--port", port, "--data", str(tmp_path / "other"))
    assert run.code == 2
    assert f"port {port}" in run.err
    assert run.err.count("\n") == 1
    detached = dsfn("up", "--port", port, "--data", str(tmp_path / "other"), "--detach")
    assert (detached.code, detached.err) == (2, run.err)


def test_in_the_foreground_a_node_ends_with_ctrl_c(tmp_path: Path) -> None:
    variables = {"DSFN_DATA": str(tmp_path / "data")}
    with process(variables, "up", "--port", "0", "--json") as node:
        assert node.stdout is not None
        document = "".join(iter(node.stdout.readline, "}\n")) + "}"
        assert_shape(json.loads(document), documented("dsfn up"))
        node.send_signal(signal.SIGINT)
        rest, _ = node.communicate(timeout=30)
        assert (node.returncode, rest) == (0, "")


def test_a_node_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Dsfn(tmp_path, {"DSFN_DATA": str(tmp_path / "data")})
    node = own("up", "--detach", "--port", "0", "--json").json()
    os.kill(node["pid"], signal.SIGSTOP)
    monkeypatch.setattr(daemon, "STOP_TIMEOUT_S", 0.3)
    run = own("down")
    assert run.code == 0
    assert "was killed" in run.err
    assert own("down").out == f"No node runs in {tmp_path / 'data'}.\n"


@contextmanager
def process(
    variables: Mapping[str, str], *arguments: str, terminal: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on by itself until the end of the block, on a terminal if given."""
    with subprocess.Popen(
        [sys.executable, "-m", "dsfn", *arguments],
        env={**os.environ, **variables},
        cwd=Path(variables["DSFN_DATA"]).parent,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def _read(terminal: int) -> bytes:
    """What a terminal shows next; nothing when its other end has closed."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits until it has happened."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
