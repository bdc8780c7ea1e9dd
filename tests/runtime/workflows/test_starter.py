from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from event_node import ManualClock, new_id
from revisions import make_revision
from small_dags import make_dag

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import (
    Conflict,
    DsfnError,
    InvalidInput,
    MalformedBody,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from dsfn.functions.event import Event, to_document
from dsfn.functions.interface import EVENT_CONTENT_TYPE
from dsfn.functions.workflow.dag import MAX_ITEMS, Constant, WorkflowInput
from dsfn.runtime.blobs import BlobStore, digest_of
from dsfn.runtime.events.results import event_body
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.model import Blob, Cause, NewRun
from dsfn.runtime.workflows.pins import Pins
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.starter import Starter

JSON = "application/json"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
WAV = b"RIFF\0\0\0\0WAVE" + bytes(40)
LIMIT = 1 << 20
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

NAME = WorkflowInput("name", "json", schema={"type": "string", "minLength": 2})
COUNT = WorkflowInput(
    "count", "json", schema={"type": "integer"}, required=False, default=Constant.of(3)
)
PHOTO = WorkflowInput("photo", "image")
PHOTOS = WorkflowInput("photos", "image", many=True)
VOICE = WorkflowInput("voice", "audio", required=False, default=Constant.of(None))
NOTE = WorkflowInput("note", "text")
ANY = WorkflowInput("file", "file")
EVENT = WorkflowInput("event", "event")
TAGS = WorkflowInput("tags", "json", many=True, schema={"type": "string"})


class Desk:
    """A starter, with one function that all its workflows call."""

    def __init__(self, root: Path) -> None:
        self.connection = connect(root / "node.db", "")
        self.clock = ManualClock()
        self.blobs = BlobStore(root / "blobs")
        self.registry = Registry(self.connection, self.clock)
        self.workflows = WorkflowRegistry(self.connection, self.clock)
        self.registry.register(make_revision(1))
        pins = Pins(self.registry)
        self.starter = Starter(self.workflows, pins, self.blobs, self.clock, new_id, LIMIT)

    def takes(self, *inputs: WorkflowInput) -> None:
        """Deploys a workflow with these inputs."""
        self.workflows.register(self.workflows.new_revision(make_dag(inputs=inputs)))

    def request(self, content_type: str, body: bytes, **more: Any) -> NewRun:
        work = self.starter.from_request("relay", content_type, body, tenant="t", **more)
        return asyncio.run(work)

    def json(self, **document: object) -> NewRun:
        return self.request(JSON, json.dumps(document).encode())

    def form(self, *fields: tuple[str, str, bytes]) -> NewRun:
        """A form; each field's name may go on with its filename after a slash."""
        return self.request("multipart/form-data; boundary=xx", multipart(fields))

    def event(self, event: Event) -> NewRun:
        return asyncio.run(self.starter.from_event("relay", event, tenant="t"))

    def refused(self, kind: type[DsfnError], field: str | None, **document: object) -> str:
        with pytest.raises(kind) as caught:
            self.json(**document)
        assert caught.value.fields.get("field") == field
        return caught.value.message


def multipart(fields: tuple[tuple[str, str, bytes], ...]) -> bytes:
    body = b""
    for name, content_type, data in fields:
        field, _, filename = name.partition("/")
        disposition = f'form-data; name="{field}"' + (
            f'; filename="{filename}"' if filename else ""
        )
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        head = f"--xx\r\nContent-Disposition: {disposition}\r\n{kind}\r\n"
        body += head.encode() + data + b"\r\n"
    return body + b"--xx--\r\n"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.connection.close()


def inline(data: bytes, content_type: str = JSON, name: str | None = None) -> Blob:
    return Blob(content_type, len(data), data, name=name)


def test_a_json_object_is_bound_by_name_and_defaults_stand_in(desk: Desk) -> None:
    desk.takes(NAME, COUNT, VOICE)
    run = desk.json(name="Ada")
    assert run.inputs == {
        "name": inline(b'"Ada"'),
        "count": inline(b"3"),
        "voice": inline(b"null"),
    }
    assert run.revision == desk.workflows.find("relay")
    assert run.pins == {"echo": make_revision(1).id}
    assert run.tenant == "t" and run.idempotency_key is None
    assert desk.json(name="Ada", count=4, voice=None).inputs["count"] == inline(b"4")


def test_null_is_given_only_where_it_is_the_default_or_fits(desk: Desk) -> None:
    title = WorkflowInput("title", "text", required=False, default=Constant.of("none"))
    desk.takes(COUNT, title, VOICE)
    assert desk.json(voice=None).inputs["voice"] == inline(b"null")
    assert "'count'" in desk.refused(InvalidInput, "count", count=None)
    assert "'title' must be a text" in desk.refused(InvalidInput, "title", title=None)


def test_a_workflow_without_inputs_takes_an_empty_body(desk: Desk) -> None:
    desk.takes()
    assert desk.request("", b"").inputs == {}
    assert desk.request(JSON, b"{}").inputs == {}


def test_who_asked_and_under_which_key_is_kept(desk: Desk) -> None:
    desk.takes(NAME)
    run = desk.request(
        JSON, b'{"name": "Ada"}', caller="me", idempotency_key="key:1", traceparent=TRACE
    )
    assert (run.caller, run.idempotency_key, run.traceparent) == ("me", "key:1", TRACE)


@pytest.mark.parametrize(
    "header",
    ["", "00-1", "x" * 9000, f"{TRACE}\x85", TRACE.upper(), f"ff{TRACE[2:]}", f"{TRACE} "],
)
def test_a_traceparent_that_is_none_is_left_out(desk: Desk, header: str) -> None:
    desk.takes(NAME)
    assert desk.request(JSON, b'{"name": "Ada"}', traceparent=header).traceparent is None


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ({}, "name", "'name' is missing."),
        ({"name": "A"}, "name", "'name' does not fit: 'A' is too short."),
        ({"name": 5}, "name", "'name' does not fit: 5 is not of type 'string'."),
        ({"name": "Ada", "count": "x"}, "count", "'count' does not fit"),
        ({"name": "Ada", "other": 1}, "other", "'other' is not something that the workflow takes."),
    ],
)
def test_what_does_not_fit_is_refused_and_named(
    desk: Desk, document: Mapping[str, object], field: str, words: str
) -> None:
    desk.takes(NAME, COUNT)
    assert desk.refused(InvalidInput, field, **document).startswith(words)


def test_a_value_deep_inside_that_does_not_fit_is_named_by_its_path(desk: Desk) -> None:
    item = {
        "type": "object",
        "required": ["x", "y"],
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
    }
    desk.takes(WorkflowInput("points", "json", schema={"type": "array", "items": item}))
    with pytest.raises(InvalidInput) as caught:
        desk.json(points=[{"x": 1, "y": 2}, {"x": "no"}])
    assert caught.value.fields["errors"] == [
        {"field": "points.1.x", "message": "does not fit: 'no' is not of type 'integer'"},
        {"field": "points.1.y", "message": "is missing"},
    ]


def test_a_schema_never_has_the_node_fetch_anything(desk: Desk) -> None:
    desk.takes(WorkflowInput("x", "json", schema={"$ref": "http://127.0.0.1:9/schema.json"}))
    assert "cannot be checked" in desk.refused(InvalidInput, "x", x=1)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", MalformedBody),
        (b"[1]", InvalidInput),
        (b'{"name": NaN}', InvalidInput),
        (b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}", InvalidInput),
    ],
)
def test_a_body_that_is_no_proper_json_is_refused(
    desk: Desk, body: bytes, kind: type[DsfnError]
) -> None:
    desk.takes(NAME)
    with pytest.raises(kind):
        desk.request(JSON, body)


def test_one_part_is_taken_raw(desk: Desk) -> None:
    desk.takes(PHOTO)
    assert desk.request("image/png", PNG).inputs == {"photo": inline(PNG, "image/png")}
    assert desk.request("", PNG).inputs == {"photo": inline(PNG, "image/png")}
    with pytest.raises(UnsupportedMediaType) as caught:
        desk.request("audio/wav", WAV)
    assert caught.value.fields["expected"] == [
        "image/*",
        "multipart/form-data",
        JSON,
        EVENT_CONTENT_TYPE,
    ]
    with pytest.raises(InvalidInput, match="does not look like image"):
        desk.request("", b"something else")


def test_a_raw_body_is_a_list_of_one_where_a_list_is_wanted(desk: Desk) -> None:
    desk.takes(PHOTOS)
    assert desk.request("image/png", PNG).inputs == {"photos": [inline(PNG, "image/png")]}


def test_a_text_becomes_utf_8(desk: Desk) -> None:
    desk.takes(NOTE)
    as_text = inline("grün".encode(), "text/plain; charset=utf-8")
    sent = "grün".encode("latin-1")
    assert desk.request("text/plain; charset=iso-8859-1", sent).inputs == {"note": as_text}
    assert desk.json(note="grün").inputs == {"note": as_text}
    assert desk.request("text/markdown", b"# hi").inputs["note"] == inline(
        b"# hi", "text/plain; charset=utf-8"
    )


def test_parts_inside_json_are_base64_or_described(desk: Desk) -> None:
    desk.takes(ANY, VOICE)
    text = b64encode(WAV).decode()
    described = {"base64": text, "content_type": "audio/x-own", "name": "a.own"}
    run = desk.json(file=described, voice=text)
    assert run.inputs == {
        "file": inline(WAV, "audio/x-own", "a.own"),
        "voice": inline(WAV, "audio/wav"),
    }
    assert "base64" in desk.refused(InvalidInput, "file", file="!!")
    assert "takes 'base64'" in desk.refused(InvalidInput, "file", file={"base64": text, "x": 1})
    assert "must be base64 text" in desk.refused(InvalidInput, "file", file=7)
    desk.refused(
        UnsupportedMediaType, "voice", file=text, voice={**described, "content_type": "a/b"}
    )


def test_a_form_brings_lists_by_fields_of_the_same_name(desk: Desk) -> None:
    desk.takes(PHOTOS, NOTE, TAGS)
    run = desk.form(
        ("photos/1.png", "image/png", PNG),
        ("note", "", b"hi"),
        ("tags", "", b"red"),
        ("photos/2.gif", "", b"GIF89a"),
        ("tags", "", b'"blue"'),
    )
    assert run.inputs == {
        "photos": [inline(PNG, "image/png", "1.png"), inline(b"GIF89a", "image/gif", "2.gif")],
        "note": inline(b"hi", "text/plain; charset=utf-8"),
        "tags": [inline(b'"red"'), inline(b'"blue"')],
    }
    with pytest.raises(InvalidInput, match="'note' is there more than once"):
        desk.form(("note", "", b"a"), ("note", "", b"b"))
    with pytest.raises(InvalidInput, match="'other' is not something"):
        desk.form(("other", "", b"a"))
    with pytest.raises(UnsupportedMediaType) as caught:
        desk.form(("photos", "", PNG), ("photos", "audio/wav", WAV))
    assert caught.value.fields["field"] == "photos.1"


def test_a_form_may_have_as_many_items_as_a_list(desk: Desk) -> None:
    desk.takes(TAGS)
    run = desk.form(*[("tags", "", b"x")] * 1000)
    assert len(run.inputs["tags"]) == 1000  # type: ignore[arg-type]
    with pytest.raises(MalformedBody, match=f"more than {MAX_ITEMS} fields"):
        desk.form(*[("tags", "", b"x")] * (MAX_ITEMS + 1))


def test_a_list_has_a_limit_of_items(desk: Desk) -> None:
    desk.takes(TAGS)
    assert "has 10001 items" in desk.refused(InvalidInput, "tags", tags=["x"] * 10_001)
    assert "must be a list" in desk.refused(InvalidInput, "tags", tags="x")
    assert "does not fit" in desk.refused(InvalidInput, "tags.1", tags=["x", 1])


def test_what_is_large_is_kept_as_a_blob(desk: Desk) -> None:
    desk.takes(ANY, WorkflowInput("data", "json"))
    large = PNG + bytes(100_000)
    run = desk.form(
        ("file/big.png", "image/png", large), ("data", JSON, b"[" + b"1," * 50_000 + b"2]")
    )
    file, data = run.inputs["file"], run.inputs["data"]
    assert isinstance(file, Blob) and isinstance(data, Blob)
    assert file.inline is None and file.ref is not None
    assert (file.content_type, file.size_bytes, file.name) == ("image/png", len(large), "big.png")
    assert desk.blobs.get(digest_of(file.ref)) == (large, "image/png")
    assert data.ref is not None and data.size_bytes == 100_003


def test_a_reference_is_kept_as_one(desk: Desk) -> None:
    desk.takes(PHOTO)
    ref = desk.blobs.put(PNG, "image/png")
    assert desk.json(photo={"$ref": ref}).inputs == {"photo": Blob("image/png", len(PNG), ref=ref)}
    raw = desk.blobs.put(PNG + b"\0", "application/octet-stream")
    described = {"$ref": raw, "content_type": "image/x-own", "name": "me.own"}
    assert desk.json(photo=described).inputs == {
        "photo": Blob("image/x-own", len(PNG) + 1, ref=raw, name="me.own")
    }
    assert desk.json(photo={"$ref": raw}).inputs == {
        "photo": Blob("image/png", len(PNG) + 1, ref=raw)
    }


def test_a_reference_that_cannot_be_kept_is_refused(desk: Desk) -> None:
    desk.takes(PHOTO)
    nowhere = f"blob:sha256:{'0' * 64}"
    assert "does not exist" in desk.refused(InvalidInput, "photo", photo={"$ref": nowhere})
    url = "http://127.0.0.1:9/a.png"
    assert "blobs of the node alone" in desk.refused(InvalidInput, "photo", photo={"$ref": url})
    assert "not a reference" in desk.refused(
        InvalidInput, "photo", photo={"$ref": "blob:sha256:../../etc"}
    )
    sound = desk.blobs.put(WAV, "audio/wav")
    desk.refused(UnsupportedMediaType, "photo", photo={"$ref": sound})
    huge = desk.blobs.put(PNG + bytes(LIMIT), "image/png")
    desk.refused(PayloadTooLarge, "photo", photo={"$ref": huge})


def uploaded(number: int = 1, **more: Any) -> Event:
    values = {"id": f"e{number}", "source": "/camera", "type": "photo.uploaded", **more}
    return Event(**values)


def test_an_event_is_given_whole_to_an_input_of_that_kind(desk: Desk) -> None:
    desk.takes(EVENT)
    event = uploaded(data=b"anything", datacontenttype="text/plain")
    run = desk.event(event)
    assert run.inputs == {"event": inline(event_body(event), EVENT_CONTENT_TYPE)}


def test_the_data_of_an_event_are_bound_like_a_body(desk: Desk) -> None:
    desk.takes(NAME, COUNT)
    run = desk.event(uploaded(data=b'{"name": "Ada"}'))
    assert run.inputs == {"name": inline(b'"Ada"'), "count": inline(b"3")}
    desk.takes(PHOTO, EVENT)
    event = uploaded(data=PNG, datacontenttype="image/png")
    assert desk.event(event).inputs == {
        "photo": inline(PNG, "image/png"),
        "event": inline(event_body(event), EVENT_CONTENT_TYPE),
    }
    with pytest.raises(UnsupportedMediaType):
        desk.event(uploaded(data=b"hi", datacontenttype="text/plain"))


def test_a_run_knows_the_event_that_started_it(desk: Desk) -> None:
    desk.takes(EVENT)
    parent = TRACE
    extensions = {"correlationid": "c9", "dsfnhops": 2, "traceparent": parent}
    run = desk.event(uploaded(extensions=extensions))
    assert run.cause == Cause("e1", "c9", 2)
    assert (run.traceparent, run.caller) == (parent, "/camera")
    again, other = desk.event(uploaded()), desk.event(uploaded(2))
    assert again.idempotency_key == run.idempotency_key != other.idempotency_key
    assert other.cause == Cause("e2", "e2", 0)


def test_the_data_of_an_event_may_be_by_reference(desk: Desk) -> None:
    ref = desk.blobs.put(PNG, "image/png")
    event = uploaded(extensions={"dataref": ref})
    desk.takes(PHOTO)
    assert desk.event(event).inputs == {"photo": Blob("image/png", len(PNG), ref=ref)}
    desk.takes(PHOTO, EVENT)
    assert desk.event(event).inputs["photo"] == Blob("image/png", len(PNG), ref=ref)
    desk.takes(NAME)
    stored = desk.blobs.put(b'{"name": "Ada"}', JSON)
    assert desk.event(uploaded(extensions={"dataref": stored})).inputs == {"name": inline(b'"Ada"')}
    with pytest.raises(InvalidInput) as caught:
        desk.event(uploaded(extensions={"dataref": "https://127.0.0.1:9/x"}))
    assert caught.value.fields["field"] == "dataref"


def test_a_request_may_be_an_event(desk: Desk) -> None:
    desk.takes(NAME)
    event = uploaded(data=b'{"name": "Ada"}', datacontenttype=JSON)
    body = json.dumps(to_document(event)).encode()
    assert desk.request(EVENT_CONTENT_TYPE, body).inputs == {"name": inline(b'"Ada"')}


def test_a_scheduled_run_has_the_defaults(desk: Desk) -> None:
    desk.takes(COUNT)
    run = asyncio.run(desk.starter.scheduled("relay", "cron:relay:1", tenant="t"))
    assert run.inputs == {"count": inline(b"3")}
    assert (run.caller, run.idempotency_key) == ("schedule", "cron:relay:1")


def test_a_workflow_that_is_not_there_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no workflow 'relay'"):
        desk.json()


def test_a_run_is_pinned_to_the_revisions_that_serve_when_it_starts(desk: Desk) -> None:
    desk.takes(NAME)
    desk.registry.register(make_revision(2))
    assert desk.json(name="Ada").pins == {"echo": make_revision(2).id}
    desk.registry.rollback("echo")
    assert desk.json(name="Ada").pins == {"echo": make_revision(1).id}


def test_a_function_that_is_gone_is_said_to_be_before_anything_starts(desk: Desk) -> None:
    desk.takes(NAME)
    desk.registry.delete("echo")
    with pytest.raises(Conflict, match="calls echo, which is not deployed any more"):
        desk.json(name="Ada")
