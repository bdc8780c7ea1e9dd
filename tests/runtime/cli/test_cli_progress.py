"""How work goes on: a line that changes, or lines that are not said twice."""

from __future__ import annotations

import sys

import pytest

from dsfn.runtime.cli.progress import progress


def test_without_a_terminal_each_sentence_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Applying") as shown:
        for sentence in ("a: waits", "a: runs", "b: waits", "a: waits", "a: runs", "b: runs"):
            shown.show(sentence)
        shown.keep("a warning")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["a: waits", "a: runs", "b: waits", "b: runs", "a warning"]
    assert captured.out == ""


def test_on_a_terminal_only_what_is_to_stay_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # on which no line can change
    with progress("Applying") as shown:
        for number in range(100):
            shown.show(f"a: state {number}")
        shown.keep("a [red]warning[/red]")
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert "a [red]warning[/red]" in lines
    assert len([line for line in lines if line]) < 10
