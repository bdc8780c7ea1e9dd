"""What every command does alike: exit codes, sentences, weight."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Dsfn

from dsfn.runtime.cli import app as cli
from dsfn.runtime.cli.canary import canary_parameters, canary_terms

HEAVY = (
    *("dsfn.billing.ledger", "dsfn.functions.workflow", "httpx", "numpy", "pydantic", "rich"),
    *("starlette", "torch", "uvicorn"),
)

MISTAKES = {
    "no-such-command": "No such command 'no-such-command'.",
    "invok": "No such command 'invok'. Did you mean 'invoke'?",
    "invoke": "Missing argument 'NAME'.",
    "list --no-such-option": "No such option: --no-such-option.",
    "bill report --by hour": (
        "Invalid value for '--by': 'hour' is not one of 'function', 'revision', 'workflow', 'run',"
        " 'step', 'day', 'key'."
    ),
    "bill report --csv --json": "Choose one of --csv and --json.",
    "invoke a --data {": None,
    "invoke a --data {} --file b": "Choose one of --data and --file.",
    "invoke a --data @missing": "missing cannot be read: No such file or directory.",
    "invoke a --type b": "--type, --source and --id are attributes of an event: add --event.",
    "invoke a --event --id ''": "--id must not be empty.",
    "invoke a --file ''": "A path on the command line is empty.",
    "deploy ''": "A path on the command line is empty.",
    "up --data '' --port 0": "A path on the command line is empty.",
    "invoke a --wait": "--wait belongs to --async.",
    "invoke a --async --timing": (
        "--timing cannot be with --async: only a direct answer tells its phases."
    ),
    "logs a --since soon": "--since 'soon' is not a duration; write it like '90s' or '5m'.",
    "subscribe a": "Say which events: give --exact, --prefix or --suffix at least once.",
    "subscribe a --exact b": ("--exact 'b' is not ATTRIBUTE=VALUE, such as type=order.created."),
    "traffic a b": "'b' is not REVISION=PERCENT, such as embed-0a1b2c3d4e=90.",
    "traffic a b=60 c=30": "The shares add up to 90 instead of 100 percent.",
    "traffic a b=50 b=50": "The revision b is given twice.",
    "up --port 70000": "70000 is not a port; choose one from 0 to 65535.",
    "init Hello": None,
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_usage_mistake_is_one_sentence_and_exit_code_2(
    line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSFN_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DSFN_DATA", str(tmp_path))
    assert cli.run(shlex.split(line)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    if MISTAKES[line] is not None:
        assert captured.err == f"{MISTAKES[line]}\n"


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "list",
        "describe a",
        "invoke a",
        "invoke a --async",
        "logs a",
        "logs a -f",
        "history a",
        "rollback a",
        "traffic a b=100",
        "delete a",
        "subscribe a --exact type=b",
        "unsubscribe a",
        "bill report",
        "bill report --csv",
        "bill close 2026-10",
        "bill list",
        "bill show 2026-10",
        "bill verify 2026-10-0001",
        "bill credit 2026-10-0001 --amount 1 --reason b",
        "bill correct a --status platform --reason b",
    ],
)
def test_without_a_node_every_command_says_how_to_start_one(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSFN_URL", "http://127.0.0.1:9")
    assert cli.run([*line.split(), "--json"][: None if "--csv" not in line else -1]) == 1
    captured = capsys.readouterr()
    sentence = "No node answers at http://127.0.0.1:9. Start one with `dsfn up`.\n"
    assert (captured.out, captured.err) == ("", sentence)


def test_an_unexpected_exception_is_a_sentence_and_its_traceback_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault() -> str:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setenv("DSFN_DATA", str(tmp_path))
    monkeypatch.setattr("dsfn.runtime.cli.options.chosen_target", fault)
    assert cli.run(["list"]) == 1
    log = tmp_path / "cli.log"
    assert capsys.readouterr().err == (
        "dsfn failed unexpectedly (ZeroDivisionError: a fault of ours);"
        f" the traceback is in {log}.\n"
    )
    assert "Traceback" in log.read_text()


def test_ctrl_c_exits_with_130_and_prints_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsfn.runtime.cli.options.chosen_target", interrupt)
    assert cli.run(["list"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("line", "command"), [("", "deploy"), ("bill", "report")])
def test_without_a_command_the_commands_are_shown(dsfn: Dsfn, line: str, command: str) -> None:
    run = dsfn(*line.split())
    assert run.code == 0
    assert f"  {command} " in run.out


@pytest.mark.parametrize("url", ["http://[", "http://node:99999", "node", "ftp://node"])
def test_a_url_that_is_none_is_a_usage_mistake(dsfn: Dsfn, url: str) -> None:
    run = dsfn.given(DSFN_URL=url)("status")
    assert (run.code, run.err) == (2, f"The URL is {url!r}, and not an http(s) URL.\n")


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ("--canary 0", "A canary gets from 1 to 49 percent of the calls."),
        ("--canary 50", "A canary gets from 1 to 49 percent of the calls."),
        ("--canary 9 --max-error-rate 101%", "The share of calls that may fail is from 0 to 100"),
        ("--canary 9 --max-error-rate few", "--max-error-rate 'few' is no share, such as 1%."),
        ("--canary 9 --promote-after 31000h", "A canary is promoted after 0 s to 30 days."),
        ("--canary 9 --promote-after soon", "--promote-after 'soon' is not a duration; write it"),
        ("--canary 9 --max-p99 0.0001ms", "The longest time that a call may take is more than 0"),
        ("--promote-after 5m", "Only a canary has terms: say --canary PERCENT, too."),
    ],
)
def test_terms_of_a_canary_that_make_no_sense_are_refused_before_a_node_is_asked(
    dsfn: Dsfn, terms: str, sentence: str
) -> None:
    run = dsfn("deploy", ".", *terms.split())
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(sentence) and run.err.count("\n") == 1


def test_terms_of_a_canary_are_sent_as_they_were_said() -> None:
    sent = canary_parameters(canary_terms(10, "P15DT1S", "0.5%", "1.5ms"))
    assert {name: float(value) for name, value in sent.items()} == {
        "canary": 10,
        "promote_after_s": 15 * 86_400 + 1,
        "max_error_percent": 0.5,
        "max_p99_us": 1500,
    }
    assert canary_parameters(canary_terms(None, None, None, None)) == {}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_output_that_cannot_be_written_is_a_sentence(option: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dsfn", option], stdout=full, stderr=subprocess.PIPE, text=True
        )
    sentence = "The output could not be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_the_version_is_the_packages(dsfn: Dsfn) -> None:
    import dsfn as package

    assert dsfn("--version").out == f"dsfn {package.__version__}\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(option: str) -> None:
    script = (
        "import sys\n"
        "from dsfn.runtime.cli.app import run\n"
        f"assert run([{option!r}]) == 0\n"
        f"sys.exit(', '.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_is_offered_for_commands_and_shells(dsfn: Dsfn) -> None:
    asked = dsfn.given(_DSFN_COMPLETE="complete_bash", COMP_WORDS="dsfn de", COMP_CWORD="1")
    assert asked().out.split() == ["deploy", "describe", "delete", "deadletters"]
    assert "_DSFN_COMPLETE" in dsfn("--show-completion", "bash").out


def test_a_reader_that_stops_early_ends_the_command_without_a_word() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "dsfn", "--help"], stdout=pipe, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (141, b"")
