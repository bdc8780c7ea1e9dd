from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field, TypeAdapter

from dsfn.functions.interface import Interface, Kind, ParameterInterface, ResultInterface
from dsfn.functions.options import Options
from dsfn.functions.parts import Image, Json, Text
from dsfn.functions.signature import signature_of
from dsfn.functions.workflow.dag import Constant, Dag, Input, WorkflowInput, WorkflowOptions
from dsfn.runtime.gateway.openapi import openapi_document

CLI_PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8080"
PARTS: tuple[Kind, ...] = ("text", "image", "audio", "video", "tensor", "file")


class Box(BaseModel):
    label: str
    inside: list[Box] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def interface(*parameters: ParameterInterface, result: ResultInterface) -> Interface:
    return Interface("Does a thing.\n\nAt length.", parameters, result)


def described(**functions: Interface) -> dict[str, Any]:
    """The document of these functions, valid and of plain JSON."""
    pairs = [(Options(name.replace("_", "-")), found) for name, found in functions.items()]
    document = openapi_document(pairs, "1.2.3", URL)
    OpenAPIV31SpecValidator(document).validate()
    assert json.loads(json.dumps(document)) == document
    return document


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][f"/functions/{name}"]["post"]
    return found


def request_body(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = operation(document, name)["requestBody"]
    return found


def answer_content(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = operation(document, name)["responses"]["200"]["content"]
    return found


def test_a_node_without_functions_is_described() -> None:
    document = described()
    assert document["info"]["version"] == "1.2.3"
    assert document["servers"] == [{"url": URL}]
    assert set(document["paths"]) == {
        "/runs",
        "/runs/{id}",
        "/runs/{id}/output",
        "/runs/{id}/cost",
        "/runs/{id}/events",
        "/runs/{id}/cancel",
        "/runs/{id}/retry",
        "/plans",
        "/auto",
        "/keys",
        "/keys/{id}",
        "/budgets",
        "/budgets/{id}",
        "/bill",
        "/months/{month}/close",
        "/usage/{id}/correction",
        "/invoices",
        "/invoices/{number}",
        "/invoices/{number}/verify",
        "/invoices/{number}/credits",
        "/rates",
        "/rates/{n}",
        "/cost/advice",
        "/events",
        "/invocations/{id}",
        "/invocations/{id}/result",
        "/blobs",
        "/blobs/{hex}",
    }


@pytest.mark.parametrize(
    ("command", "path", "method", "status"),
    [
        ("bill report", "/bill", "get", "200"),
        ("bill close", "/months/{month}/close", "post", "200"),
        ("bill list", "/invoices", "get", "200"),
        ("bill show", "/invoices/{number}", "get", "200"),
        ("bill verify", "/invoices/{number}/verify", "get", "200"),
        ("bill credit", "/invoices/{number}/credits", "post", "201"),
        ("bill correct", "/usage/{id}/correction", "post", "201"),
        ("rates list", "/rates", "get", "200"),
        ("rates show", "/rates/{n}", "get", "200"),
        ("rates set", "/rates", "post", "201"),
        ("cost advise", "/cost/advice", "get", "200"),
        ("runs cost", "/runs/{id}/cost", "get", "200"),
    ],
)
def test_what_commands_print_of_money_is_what_the_description_says(
    command: str, path: str, method: str, status: str
) -> None:
    document = described()
    responses = document["paths"][path][method]["responses"]
    schema = responses[status]["content"]["application/json"]["schema"]
    example = CLI_PAGE.split(f"### dsfn {command}\n")[1].split("```json\n")[1].split("```")[0]
    closed = json.loads(
        json.dumps({**schema, "components": document["components"]}),
        object_hook=lambda found: (
            {"additionalProperties": False, **found} if "properties" in found else found
        ),
    )
    Draft202012Validator(closed).validate(json.loads(example))


@pytest.mark.parametrize("kind", [*PARTS, "json", "event"])
@pytest.mark.parametrize("streaming", [False, True])
def test_every_kind_of_parameter_and_result_is_described(kind: Kind, streaming: bool) -> None:
    schema = {"type": "integer"} if kind == "json" else None
    value = ParameterInterface("value", kind, True, schema)
    other = ParameterInterface("other", "json", False, {"type": "string", "default": "x"})
    result = ResultInterface(kind, streaming, schema)
    document = described(
        one=interface(value, result=result),
        two=interface(value, other, result=result),
        none=interface(result=result),
    )
    for name, found in (("one", (value,)), ("two", (value, other)), ("none", ())):
        expected = interface(*found, result=result).request_content_types()
        assert tuple(request_body(document, name)["content"]) == expected


def test_a_raw_part_a_form_and_json_are_three_ways_to_say_the_same() -> None:
    def describe(image: Image, question: Text, top: int = 3) -> Json:
        """Answers a question about an image."""

    def flip(image: Image) -> Image:
        return image

    document = described(
        describe=signature_of(describe).interface("Answers a question about an image."),
        flip=signature_of(flip).interface(""),
    )
    assert request_body(document, "flip")["content"]["image/*"] == {"schema": {}}
    form = request_body(document, "describe")["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["image", "question"]
    assert form["encoding"] == {
        "image": {"contentType": "image/*"},
        "question": {"contentType": "text/*"},
        "top": {"contentType": "application/json"},
    }
    values = request_body(document, "describe")["content"]["application/json"]["schema"]
    plain, reference, embedded = values["properties"]["image"]["anyOf"]
    assert plain == {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": "image/*",
    }
    assert reference["properties"] == {"$ref": {"type": "string"}}
    assert embedded["required"] == ["base64"]
    assert values["properties"]["top"]["type"] == "integer"


def test_definitions_of_types_become_components_of_their_function() -> None:
    def detect(boxes: list[Box], pet: Pet) -> Box:
        return boxes[0]

    document = described(
        detect=signature_of(detect).interface(""), find_all=signature_of(detect).interface("")
    )
    schemas = document["components"]["schemas"]
    own = sorted(name for name in schemas if "." in name)
    assert own == [
        f"{function}.{name}"
        for function in ("detect", "find-all")
        for name in ("boxes.Box", "pet.Cat", "pet.Dog", "result.Box")
    ]
    box = schemas["detect.boxes.Box"]["properties"]
    assert box["inside"]["items"] == {"$ref": "#/components/schemas/detect.boxes.Box"}
    pet = request_body(document, "detect")["content"]["application/json"]["schema"]["properties"][
        "pet"
    ]
    assert pet["discriminator"]["mapping"]["cat"] == "#/components/schemas/detect.pet.Cat"
    assert answer_content(document, "detect")["application/json"]["schema"] == {
        "$ref": "#/components/schemas/detect.result.Box"
    }


def test_data_and_names_that_look_like_keywords_are_left_alone() -> None:
    schema = {
        "$defs": {"Box": {"type": "object"}},
        "type": "object",
        "properties": {
            "default": {"$ref": "#/$defs/Box"},
            "$ref": {"type": "string"},
            "hint": {"default": {"$ref": "#/$defs/Box"}},
        },
    }
    value = ParameterInterface("value", "json", True, schema)
    document = described(f=interface(value, result=ResultInterface("json", schema={})))
    body = request_body(document, "f")["content"]["application/json"]["schema"]
    assert body["properties"]["value"]["properties"] == {
        "default": {"$ref": "#/components/schemas/f.value.Box"},
        "$ref": {"type": "string"},
        "hint": {"default": {"$ref": "#/$defs/Box"}},
    }


def test_a_stream_of_values_is_server_sent_events_and_of_parts_is_bytes() -> None:
    tokens = ResultInterface("json", True, {"type": "string"})
    frames = ResultInterface("image", True)
    document = described(
        tokens=interface(result=tokens),
        frames=interface(result=frames),
    )
    stream = answer_content(document, "tokens")
    assert list(stream) == ["text/event-stream"]
    assert stream["text/event-stream"]["x-item-schema"] == {"type": "string"}
    assert list(answer_content(document, "frames")) == ["application/octet-stream"]


def test_an_operation_has_its_words_headers_and_errors() -> None:
    document = described(do_it=interface(result=ResultInterface("json", schema={})))
    found = operation(document, "do-it")
    assert found["operationId"] == "call_do_it"
    assert found["summary"] == "Does a thing."
    assert found["description"] == "Does a thing.\n\nAt length."
    assert [p["name"] for p in found["parameters"]] == ["Prefer", "Idempotency-Key"]
    assert found["requestBody"]["required"] is False
    assert {"Server-Timing", "Dsfn-Revision", "Dsfn-Cost-Nano"} <= set(
        found["responses"]["200"]["headers"]
    )
    assert set(found["responses"]) == {"200", "202", "4XX", "503", "5XX"}
    problem = document["components"]["responses"]["Problem"]["content"]
    assert list(problem) == ["application/problem+json"]


def test_the_document_is_the_same_for_the_same_functions() -> None:
    one = interface(result=ResultInterface("text"))
    assert json.dumps(described(a=one, b=one)) == json.dumps(described(a=one, b=one))


def test_a_workflow_is_described_with_its_inputs() -> None:
    inputs = (
        WorkflowInput("photos", "image", many=True),
        WorkflowInput("boxes", "json", schema=TypeAdapter(Box).json_schema()),
        WorkflowInput("note", "text", required=False, default=Constant.of("")),
    )
    album = Dag(WorkflowOptions("photo-album"), "Makes one.", inputs, (), Input("note"))
    document = openapi_document([], "1.2.3", URL, [album])
    OpenAPIV31SpecValidator(document).validate()
    found = document["paths"]["/workflows/photo-album"]["post"]
    assert (found["operationId"], found["summary"]) == ("run_photo_album", "Makes one.")
    body = found["requestBody"]["content"]
    assert set(body) == {
        "application/json",
        "multipart/form-data",
        "application/cloudevents+json",
    }
    schema = body["application/json"]["schema"]
    assert schema["required"] == ["photos", "boxes"]
    assert schema["properties"]["photos"]["type"] == "array"
    assert "photo-album.boxes.Box" in document["components"]["schemas"]
    assert "Location" in found["responses"]["202"]["headers"]


def test_a_workflow_with_one_part_takes_its_bytes() -> None:
    dag = Dag(WorkflowOptions("listen"), "", (WorkflowInput("a", "audio"),), (), Input("a"))
    document = openapi_document([], "1.2.3", URL, [dag])
    OpenAPIV31SpecValidator(document).validate()
    body = document["paths"]["/workflows/listen"]["post"]["requestBody"]
    assert "audio/*" in body["content"]
    assert body["required"]


@pytest.mark.parametrize("needs_key", [True, False])
def test_keys_and_budgets_are_described_and_whether_one_needs_a_key(needs_key: bool) -> None:
    document = openapi_document([], "1.2.3", URL, [], needs_key)
    OpenAPIV31SpecValidator(document).validate()
    assert ({} in document["security"]) is not needs_key
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    asked = document["paths"]["/keys"]["post"]["requestBody"]["content"]["application/json"]
    assert asked["schema"]["required"] == ["name", "scopes"]
    assert set(document["paths"]["/budgets/{id}"]) == {"parameters", "get", "delete"}


def test_planning_is_described() -> None:
    document = openapi_document([], "1.2.3", URL, [])
    OpenAPIV31SpecValidator(document).validate()
    asked = document["paths"]["/plans"]["post"]["requestBody"]["content"]["application/json"]
    assert set(asked["schema"]["properties"]) == {"inputs", "output", "want", "optimise", "save"}
    auto = document["paths"]["/auto"]["post"]
    assert [p["name"] for p in auto["parameters"][2:]] == ["output", "want", "optimise"]
    assert "Location" in auto["responses"]["202"]["headers"]
