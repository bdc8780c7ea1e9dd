"""Tables, fields and bars."""

from __future__ import annotations

import sys

import pytest

from dsfn.runtime.cli.bars import bars, call_spans, print_bars, spans
from dsfn.runtime.cli.output import Column, print_fields, print_json, print_table, size

COLUMNS = (Column("name"), Column("count", right=True))


def _on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


def test_without_a_terminal_a_table_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [("embed", "9"), ("a", "12345678")], empty="None.")
    assert capsys.readouterr().out == (
        "NAME      COUNT\nembed         9\na      12345678\n"  # aligned, nothing else
    )


def test_on_a_terminal_a_table_is_drawn_and_its_texts_are_not_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_terminal(monkeypatch)
    print_table(COLUMNS, [("[red]a[/red]", "1")], empty="None.")
    out = capsys.readouterr().out
    assert "─" in out
    assert "[red]a[/red]" in out


def test_an_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [], empty="Nothing is there.")
    assert capsys.readouterr().out == "Nothing is there.\n"


def test_fields_are_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_fields([("url", "http://a"), ("state", "ready")])
    assert capsys.readouterr().out == "url: http://a\nstate: ready\n"
    _on_terminal(monkeypatch)
    print_fields([("url", "http://a"), ("state", "ready")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["url", "http://a"],
        ["state", "ready"],
    ]


def test_json_keeps_letters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "grün"})
    assert capsys.readouterr().out == '{\n  "name": "grün"\n}\n'


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (90_868_376, "90.9 MB")]
)
def test_sizes_are_in_decimal_units(count: int, text: str) -> None:
    assert size(count) == text


def test_each_bar_begins_where_the_one_before_it_ends() -> None:
    lines = bars(call_spans({"queue": 1000, "start": 0, "execute": 2000}, 4000), 4000, width=8)
    assert lines == [
        "queue           1.0 ms  ██",
        "start           0.0 ms",
        "execute         2.0 ms    ████",
        "transport       1.0 ms        ██",
        "total           4.0 ms",
    ]


def test_a_phase_too_short_for_a_bar_is_still_seen() -> None:
    lines = bars(spans({"queue": 1, "execute": 99_999}), 100_000, width=10)
    assert lines[0].endswith("▏")


def test_phases_longer_than_what_the_client_saw_leave_nothing_for_transport() -> None:
    assert bars(call_spans({"execute": 10}, 5), 5, width=4)[1] == "transport       0.0 ms"


def test_the_parts_of_a_phase_lie_within_it() -> None:
    phases = {"start": 1000, "restore": 3000, "restore.map": 1000, "restore.copy": 2000, "run": 500}
    lines = bars(spans(phases), 4500, width=9)
    assert lines == [
        "start           1.0 ms  ██",
        "restore         3.0 ms    ██████",
        "  map           1.0 ms    ██",
        "  copy          2.0 ms      ████",
        "run             0.5 ms          █",
        "total           4.5 ms",
    ]


def test_bars_beside_a_result_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_bars(spans({"execute": 1000}), 2000, beside_result=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "execute" in captured.err
