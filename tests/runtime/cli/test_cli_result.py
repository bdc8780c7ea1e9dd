"""What `dsfn invoke` makes of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from dsfn.functions.errors import DsfnError, HandlerRaised
from dsfn.runtime.cli.reply import Reply, parse_server_timing, reply_from
from dsfn.runtime.cli.result import (
    collect_result,
    print_result,
    readable,
    server_sent,
    write_result,
)


def _reply(content_type: str, *chunks: bytes, **headers: str) -> Reply:
    named: Mapping[str, str] = {k.replace("_", "-"): v for k, v in headers.items()}
    return reply_from({"content-type": content_type, **named}, iter(chunks))


def test_the_phases_are_read_in_microseconds() -> None:
    header = "queue;dur=0.042, start;dur=0.000, restore;dur=8.100, execute;dur=12.5"
    phases = {"queue": 42, "start": 0, "restore": 8100, "execute": 12_500}
    assert parse_server_timing(header) == phases


@pytest.mark.parametrize("header", ["", "total", "a;desc=x, b;dur=no"])
def test_a_header_of_another_kind_has_no_phases(header: str) -> None:
    assert parse_server_timing(header) == {}


def test_json_text_bytes_and_events_are_collected_as_what_they_are() -> None:
    assert collect_result(_reply("application/json", b'{"a"', b": 1}")).value == {"a": 1}
    assert collect_result(_reply("text/plain; charset=utf-8", "grün".encode())).value == "grün"
    image = collect_result(_reply("image/png", b"\x89", b"PNG"))
    assert (image.value, image.data, image.bytes) == (None, b"\x89PNG", 4)
    event = _reply(
        "text/plain", b"hi", ce_specversion="1.0", ce_type="a", ce_source="/b%20c", ce_id="1"
    )
    assert collect_result(event).value == {
        "specversion": "1.0",
        "type": "a",
        "source": "/b c",
        "id": "1",
        "datacontenttype": "text/plain",
        "data": "hi",
    }


def test_the_items_of_a_stream_are_collected_wherever_its_chunks_are_cut() -> None:
    chunks = (b'data: {"n', b'": 1}\n', b"\ndata: two\nda", b"ta: lines\n\n")
    assert collect_result(_reply("text/event-stream", *chunks)).value == [{"n": 1}, "two\nlines"]


def test_an_error_at_the_end_of_a_stream_is_raised_after_its_items() -> None:
    problem = b'{"type": "https://dsfn.dev/errors/handler-raised", "detail": "It raised."}'
    items = server_sent(iter((b"data: 1\n\nevent: error\ndata: " + problem + b"\n\n",)))
    assert next(items) == "1"
    with pytest.raises(HandlerRaised, match="It raised"):
        next(items)


def test_an_answer_that_only_claims_to_be_json_is_one_sentence() -> None:
    with pytest.raises(DsfnError, match="says it is JSON and is not"):
        collect_result(_reply("application/json", b"{"))


def test_a_stream_of_text_is_printed_as_one_text_and_of_json_as_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chunks = (b"data: a\n\n", b"data:  b\n\n")
    print_result(_reply("text/event-stream", *chunks), lambda: True)
    assert capsys.readouterr().out == "a b\n"
    print_result(_reply("text/event-stream", b"data: 1\n\ndata: 2\n\n"), lambda: False)
    assert capsys.readouterr().out == "1\n2\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([[0.5, -1.0], [2, 3]], "[\n  [0.5, -1.0],\n  [2, 3]\n]"),
        ({"a": ["x  y", "[1,\n 2]"], "b": []}, None),
        ([], "[]"),
        ("grün", '"grün"'),
    ],
)
def test_on_a_terminal_lists_of_plain_values_take_one_line(value: object, text: str | None) -> None:
    assert json.loads(readable(value)) == value
    assert text is None or readable(value) == text


def test_text_cut_inside_a_character_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(_reply("text/plain", b"gr\xc3", b"\xbcn"), lambda: False)
    assert capsys.readouterr().out == "grün"


def test_a_result_is_written_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    assert write_result(_reply("image/png", b"ab", b"c"), path) == 3
    assert path.read_bytes() == b"abc"


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DsfnError, match="cannot be written: Is a directory"):
        write_result(_reply("image/png", b"a"), tmp_path)
