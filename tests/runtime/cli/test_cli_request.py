"""What `dsfn invoke` sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.request import EventOptions, request_from


def test_without_data_or_file_an_empty_object_is_sent() -> None:
    request = request_from(None, None, None, None)
    assert (request.body, request.headers) == (b"{}", {"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.WAV", "audio/wav"),
        ("a.flac", "audio/flac"),
        ("a.safetensors", "application/vnd.safetensors"),
        ("a.txt", "text/plain"),
        ("a.json", "application/json"),
        ("a", "application/octet-stream"),
    ],
)
def test_a_files_content_type_is_guessed_from_its_name(
    tmp_path: Path, name: str, content_type: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"bytes")
    request = request_from(None, file, None, None)
    assert (request.body, request.headers) == (b"bytes", {"Content-Type": content_type})


def test_a_chosen_content_type_is_sent_and_its_data_not_checked() -> None:
    request = request_from("{not json", None, "text/plain", None)
    assert (request.body, request.headers["Content-Type"]) == (b"{not json", "text/plain")


def test_data_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "parameters"
    file.write_text('{"a": 1}')
    request = request_from(f"@{file}", None, None, None)
    assert (request.body, request.headers["Content-Type"]) == (b'{"a": 1}', "application/json")


def test_data_that_is_not_json_is_refused() -> None:
    with pytest.raises(UsageError, match="--data is not JSON"):
        request_from("{'a': 1}", None, None, None)


def test_an_event_travels_in_binary_mode_with_its_attributes_encoded() -> None:
    event = EventOptions(type="größe 100%", source="/shop", id="7")
    headers = request_from("1", None, None, event).headers
    assert headers == {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-type": "gr%C3%B6%C3%9Fe%20100%25",
        "ce-source": "/shop",
        "ce-id": "7",
    }


def test_every_event_gets_an_id_of_its_own() -> None:
    event = EventOptions(None, None, None)
    ids = {request_from(None, None, None, event).headers["ce-id"] for _ in range(3)}
    assert len(ids) == 3
