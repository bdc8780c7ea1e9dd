"""Tenants on one node: each sees what is its own, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_node import LiveNode, StartNode, start_node

APP = """
import time

import dsfn


@dsfn.function
def double(number: int) -> int:
    return 2 * number


@dsfn.function
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


@dsfn.function
def fails(number: int) -> int:
    raise ValueError("no")


@dsfn.function
def large(side: int) -> dsfn.Image:
    from PIL import Image

    return dsfn.Image.of(Image.effect_noise((side, side), 100))


@dsfn.function
def size(picture: dsfn.Image) -> list[int]:
    return list(picture.pil().size)


@dsfn.on(type="number")
@dsfn.function
def on_number(event: dsfn.Event) -> int:
    return int(event.json())


@dsfn.on(type="dev.dsfn.function.completed", source="/functions/on-number")
@dsfn.function
def after_number(event: dsfn.Event) -> None:
    pass


@dsfn.on(type="broken")
@dsfn.function
def on_broken(event: dsfn.Event) -> None:
    raise ValueError("no")


@dsfn.workflow
def fourfold(number: int) -> int:
    return double(double(number))


@dsfn.on(type="number")
@dsfn.workflow
def counted(event: dsfn.Event) -> int:
    return double(1)


@dsfn.workflow
def hopeless(number: int) -> int:
    return fails(number)


@dsfn.workflow
def drawn(side: int) -> dsfn.Image:
    return large(side)
"""
SCOPES = ["invoke", "read", "billing"]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of the node, with a client that has its key."""

    name: str
    key: str
    http: httpx.Client

    def get(self, path: str, **params: str) -> Any:
        """A document, which must be there for it."""
        answer = self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@dataclass(frozen=True, slots=True)
class House:
    """A node that needs keys, its owner, and two tenants."""

    node: LiveNode
    acme: Tenant
    zoo: Tenant


def make_key(node: LiveNode, **document: object) -> tuple[str, str]:
    """The id of a new key, and the key."""
    answer = node.http.post("/keys", json={"name": "test", **document})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return made["id"], made["key"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = tmp_path_factory.mktemp("house")
    (place / "app.py").write_text(APP, encoding="utf-8")
    node = start_node(place, libraries=(), auth={"required": True})
    try:
        node.be_owner()
        node.deploy(place / "app.py")
        with ExitStack() as stack:
            tenants = []
            for name in ("acme", "zoo"):
                id_, key = make_key(node, tenant=name, scopes=SCOPES)
                tenants.append(Tenant(name, id_, stack.enter_context(node.client(key))))
            yield House(node, *tenants)
        assert node.stop() == 0, node.log
        assert "Traceback" not in node.log, node.log
    finally:
        node.end()


def rows_by(house: House, tenant: Tenant, function: str) -> list[Any]:
    """The rows of a function that are on a tenant's account, each by its key."""
    rows = [row for row in house.node.rows(function) if row.tenant == tenant.name]
    assert {row.key_id for row in rows} <= {tenant.key}
    return rows


def _ended_runs(tenant: Tenant, workflow: str) -> list[Any]:
    """A tenant's runs of a workflow that came to an end."""
    runs: list[Any] = tenant.get("/runs", workflow=workflow, state="succeeded")["runs"]
    return runs


def test_without_a_valid_key_nothing_is_answered_but_health(house: House) -> None:
    with httpx.Client(base_url=house.node.url, trust_env=False) as nobody:
        assert nobody.get("/health/readiness").status_code == 200
        for header in ({}, {"Authorization": "Bearer dsfn_0_0"}, {"Authorization": "Basic eDp5"}):
            for method, path in (
                ("GET", "/functions"),
                ("POST", "/functions/double"),
                ("POST", "/functions/unknown"),
                ("GET", "/metrics"),
                ("POST", "/deployments"),
                ("GET", "/keys"),
            ):
                answer = nobody.request(method, path, headers=header)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert answer.json()["type"].endswith("/unauthenticated")


def test_a_key_may_do_what_its_scopes_say(house: House) -> None:
    for method, path in (
        ("POST", "/deployments?entry=app.py"),
        ("DELETE", "/functions/double"),
        ("GET", "/functions/double/logs"),
        ("POST", "/rates"),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("POST", "/budgets"),
    ):
        answer = house.acme.http.request(method, path)
        assert (answer.status_code, answer.json()["detail"]) == (
            403,
            "The API key may not do this.",
        )
    _, looks = make_key(house.node, tenant="acme", scopes=["read"])
    with house.node.client(looks) as client:
        assert client.get("/functions").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.post("/functions/double", json={"number": 1}).status_code == 403
        assert client.get("/bill").status_code == 403
        wanted = {"inputs": ["application/json"], "output": "application/json", "save": "mine"}
        assert client.post("/plans", json=wanted).status_code == 403


def test_a_revoked_key_is_refused_from_the_next_request_on(house: House) -> None:
    id_, key = make_key(house.node, tenant="acme", scopes=["invoke"])
    with house.node.client(key) as client:
        assert client.post("/functions/double", json={"number": 1}).json() == 2
        revoked = house.node.http.delete(f"/keys/{id_}").json()
        assert (revoked["state"], revoked["last_used"]) == ("revoked", time.strftime("%Y-%m-%d"))
        for _ in range(3):
            assert client.post("/functions/double", json={"number": 1}).status_code == 401
            assert client.get("/runs").status_code == 401


def test_a_key_for_some_functions_calls_no_others(house: House) -> None:
    _, key = make_key(
        house.node, tenant="acme", scopes=["invoke"], functions=["double", "fourfold"]
    )
    with house.node.client(key) as client:
        assert client.post("/functions/double", json={"number": 2}).json() == 4
        assert client.post("/workflows/fourfold", json={"number": 2}).json() == 8
        for path in ("/functions/nap", "/workflows/hopeless", "/events", "/auto"):
            assert client.post(path, json={}).status_code == 403, path
        run = house.acme.http.post("/workflows/hopeless", json={"number": 1}).json()["run"]
        for path in (f"/runs/{run}/retry", f"/runs/{run}/cancel", f"/deadletters/{run}/replay"):
            assert client.post(path).status_code == 403, path


def test_a_calls_tenant_and_key_are_in_the_books(house: House) -> None:
    answer = house.acme.http.post("/functions/double", json={"number": 3})
    row = house.node.row(answer)
    assert (row.tenant, row.key_id) == ("acme", house.acme.key)


def test_they_go_with_an_asynchronous_call_which_others_do_not_find(house: House) -> None:
    headers = {"Prefer": "respond-async"}
    accepted = house.zoo.http.post("/functions/double", json={"number": 4}, headers=headers)
    path = accepted.headers["location"]
    eventually(lambda: house.zoo.get(path)["state"] == "succeeded", "the call")
    assert house.zoo.get(f"{path}/result") == 8
    (row,) = house.node.rows_of(path.rpartition("/")[2])
    assert (row.tenant, row.key_id) == ("zoo", house.zoo.key)
    for of_it in (path, f"{path}/result"):
        assert house.acme.http.get(of_it).status_code == 404
        assert house.node.http.get(of_it).status_code == 200


def test_they_go_with_an_event_to_all_that_follows_from_it(house: House) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/numbers", "type": "number", "data": 5}
    content = {"Content-Type": "application/cloudevents+json"}
    for tenant in (house.acme, house.zoo):
        # The same source and id: to another tenant it is another event.
        answer = tenant.http.post(
            "/events", json={**event, "data": len(tenant.name)}, headers=content
        )
        assert answer.json() == {"events": 1, "deliveries": 2}
    for tenant in (house.acme, house.zoo):
        eventually(partial(rows_by, house, tenant, "after-number"), "the event's follower")
        eventually(partial(_ended_runs, tenant, "counted"), "the run")
        assert len(rows_by(house, tenant, "on-number")) == 1
    double = [row for row in house.node.rows("double") if "/double/" in row.caller]
    assert {row.tenant for row in double} >= {"acme", "zoo"}


def test_runs_are_seen_by_their_tenant_alone(house: House) -> None:
    answer = house.acme.http.post("/workflows/fourfold", json={"number": 5})
    assert answer.json() == 20
    run = answer.headers["dsfn-run-id"]
    paths = ["", "/output", "/dag", "/graph", "/events", "/logs"]
    for path in paths:
        assert house.acme.http.get(f"/runs/{run}{path}").status_code == 200
        assert house.zoo.http.get(f"/runs/{run}{path}").status_code == 404
        assert house.node.http.get(f"/runs/{run}{path}").status_code == 200
    for path in ("cancel", "retry"):
        assert house.zoo.http.post(f"/runs/{run}/{path}").status_code == 404
    assert run in [each["id"] for each in house.acme.get("/runs")["runs"]]
    assert run in [each["id"] for each in house.node.http.get("/runs").json()["runs"]]
    for params in ({}, {"workflow": "fourfold"}, {"state": "succeeded"}):
        assert run not in [each["id"] for each in house.zoo.get("/runs", **params)["runs"]]
    assert house.zoo.http.get("/runs", params={"tenant": "acme"}).status_code == 403
    chosen = house.node.http.get("/runs", params={"tenant": "zoo"}).json()["runs"]
    assert run not in [each["id"] for each in chosen]
    rows = [row for row in house.node.rows("double") if run in row.caller]
    assert {(row.tenant, row.key_id) for row in rows} == {("acme", house.acme.key)}


def test_a_run_that_is_tried_again_stays_its_tenants(house: House) -> None:
    failed = house.acme.http.post("/workflows/hopeless", json={"number": 1}).json()["run"]
    again = house.node.http.post(f"/runs/{failed}/retry").json()["id"]
    eventually(lambda: house.acme.get(f"/runs/{again}")["state"] == "failed", "the run")
    assert house.zoo.http.get(f"/runs/{again}").status_code == 404
    rows = [row for row in house.node.rows("fails") if again in row.caller]
    assert {(row.tenant, row.key_id) for row in rows} == {("acme", house.acme.key)}
    assert failed not in [each["id"] for each in house.zoo.get("/deadletters")["deadletters"]]


def test_dead_letters_are_seen_and_replayed_by_their_tenant_alone(house: House) -> None:
    event = {"specversion": "1.0", "id": "b", "source": "/zoo", "type": "broken", "data": 5}
    content = {"Content-Type": "application/cloudevents+json"}
    house.zoo.http.post("/events", json=event, headers=content)
    (letter,) = eventually(
        lambda: [e for e in house.zoo.get("/deadletters")["deadletters"] if e["kind"] == "event"],
        "the dead letter",
    )
    path = f"/deadletters/{letter['id']}"
    assert house.zoo.get(path)["event"]["id"] == "b"
    assert house.acme.http.get(path).status_code == 404
    assert house.acme.http.post(f"{path}/replay").status_code == 404
    listed = house.acme.get("/deadletters")["deadletters"]
    assert letter["id"] not in [each["id"] for each in listed]
    assert house.zoo.http.post(f"{path}/replay").status_code == 202


def test_an_idempotency_key_is_a_tenants_own(house: House) -> None:
    headers = {"Idempotency-Key": "one"}
    first = house.acme.http.post("/functions/double", json={"number": 6}, headers=headers)
    other = house.zoo.http.post("/functions/double", json={"number": 7}, headers=headers)
    again = house.acme.http.post("/functions/double", json={"number": 6}, headers=headers)
    assert [first.json(), other.json(), again.json()] == [12, 14, 12]
    assert "dsfn-replayed" not in other.headers and again.headers["dsfn-replayed"] == "true"


def test_a_blob_is_worth_nothing_to_who_only_knows_its_name(house: House) -> None:
    picture = house.acme.http.post("/functions/large", json={"side": 9}, headers={"Accept": "*/*"})
    ref = house.acme.http.post(
        "/blobs", content=picture.content, headers={"Content-Type": "image/png"}
    ).json()["ref"]
    path = f"/blobs/{ref.rpartition(':')[2]}"
    named = {"picture": {"$ref": ref}}
    assert house.acme.http.get(path).content == picture.content
    assert house.acme.http.post("/functions/size", json=named).json() == [9, 9]
    assert house.zoo.http.get(path).status_code == 404
    event = {"specversion": "1.0", "id": "r", "source": "/a", "type": "t", "data": named}
    refused = [
        house.zoo.http.post("/functions/size", json=named),
        house.zoo.http.post("/workflows/fourfold", json={"number": named}),
        house.zoo.http.post("/auto?output=application/json", json=named),
        house.zoo.http.post(
            "/events", json=event, headers={"Content-Type": "application/cloudevents+json"}
        ),
    ]
    assert [answer.status_code for answer in refused] == [422] * 4
    house.zoo.http.post("/blobs", content=picture.content)
    assert house.zoo.http.get(path).content == picture.content
    assert house.node.http.get(path).content == picture.content


def test_a_large_result_is_a_blob_of_its_tenant(house: House) -> None:
    answer = house.acme.http.post("/workflows/drawn", json={"side": 400})
    assert answer.status_code == 200, answer.text
    run = house.acme.get(f"/runs/{answer.headers['dsfn-run-id']}")
    path = f"/blobs/{run['output']['$ref'].rpartition(':')[2]}"
    assert house.acme.http.get(path).content == answer.content
    assert house.zoo.http.get(path).status_code == 404


def test_a_bill_is_its_tenants_and_the_devices_are_the_operators(house: House) -> None:
    for tenant in (house.acme, house.zoo):
        tenant.http.post("/functions/double", json={"number": 1})
        bill = tenant.get("/bill")
        assert {line["tenant"] for line in bill["lines"]} == {tenant.name}
        assert bill["devices"] == []
    assert house.zoo.http.get("/bill", params={"tenant": "acme"}).status_code == 403
    whole = house.node.http.get("/bill").json()
    assert {line["tenant"] for line in whole["lines"]} >= {"acme", "zoo"}
    assert whole["devices"]
    of_one = house.node.http.get("/bill", params={"tenant": "zoo"}).json()
    assert {line["tenant"] for line in of_one["lines"]} == {"zoo"}


def test_rates_do_not_tell_what_others_pay(house: House) -> None:
    card = {"discounts": {"acme": 1000}, "taxes": {"zoo": 700}, "default": {"pico_per_second": 1}}
    assert house.node.http.post("/rates", json=card).status_code == 201
    number = house.node.http.get("/rates").json()["rates"][-1]["number"]
    acme, zoo = (t.get(f"/rates/{number}")["card"] for t in (house.acme, house.zoo))
    assert (acme["discounts"], acme["taxes"]) == ({"acme": 1000}, {})
    assert (zoo["discounts"], zoo["taxes"]) == ({}, {"zoo": 700})


def test_keys_and_their_state_outlive_kill_9(start: StartNode, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    node = start(libraries=(), auth={"required": True})
    node.be_owner()
    node.deploy(tmp_path / "app.py")
    _, kept = make_key(node, tenant="acme", scopes=["invoke"])
    gone, revoked = make_key(node, tenant="acme", scopes=["invoke"])
    owner = node.http.headers["authorization"]
    assert node.http.delete(f"/keys/{gone}").status_code == 200
    node.kill()
    node = start(libraries=(), auth={"required": True})
    for key, status in ((kept, 200), (revoked, 401), (owner.removeprefix("Bearer "), 401)):
        with node.client(key) as client:
            assert client.post("/functions/double", json={"number": 1}).status_code == status
    assert kept.encode() not in (node.data / "node.db").read_bytes()
