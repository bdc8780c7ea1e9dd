"""`dsfn list`, `describe`, `history`, `rollback`, `traffic` and `delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsfn.functions.errors import UsageError
from dsfn.functions.options import Options
from dsfn.runtime.cli.canary import canary_words
from dsfn.runtime.cli.documents import FunctionDocument, ReplicaDocument, SnapshotDocument
from dsfn.runtime.cli.options import JsonOption, NameArgument, connect
from dsfn.runtime.cli.output import (
    Column,
    local_time,
    print_fields,
    print_json,
    print_table,
    say,
    size,
)
from dsfn.runtime.cli.subscriptions import describe_filters
from dsfn.runtime.precision import Precision

_NO_URL = "none: the cluster has no Service of it"


def list_functions(json_output: JsonOption = False) -> None:
    """List the deployed functions."""
    with connect() as client:
        functions = client.functions()
    if json_output:
        print_json(functions)
        return
    print_table(
        (Column("name"), Column("state"), Column("replicas", right=True), Column("revision")),
        [(f["name"], f["state"], str(f["replica_count"]), f["revision"]) for f in functions],
        empty="No function is deployed. Deploy one with `dsfn deploy PATH`.",
    )


def describe(name: NameArgument, json_output: JsonOption = False) -> None:
    """Show one function: its types, options, traffic and replicas."""
    with connect() as client:
        function = client.function(name)
    if json_output:
        print_json(function)
        return
    print_fields(_description(function))
    if function["replicas"]:
        say()
        _print_replicas(function["replicas"])


def history(name: NameArgument, json_output: JsonOption = False) -> None:
    """List a function's revisions, newest first."""
    with connect() as client:
        revisions = client.history(name)
    if json_output:
        print_json(revisions)
        return
    print_table(
        (Column("revision"), Column("created"), Column("traffic", right=True), Column("snapshot")),
        [
            (
                r["revision"],
                local_time(r["created_at"]),
                f"{r['traffic_percent']} %",
                _snapshot(r["snapshot"], None),
            )
            for r in revisions
        ],
        empty=f"{name} has no revisions.",
    )


def rollback(
    name: NameArgument,
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="REVISION",
            help="Go back to this one instead of the one before.",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Send all calls to an earlier revision."""
    with connect() as client:
        result = client.rollback(name, revision)
    if json_output:
        print_json(result)
    else:
        say(f"{result['name']} now runs {result['revision']}.")


def traffic(
    name: NameArgument,
    shares: Annotated[
        list[str],
        typer.Argument(
            metavar="REVISION=PERCENT...", help="Shares that add up to 100.", show_default=False
        ),
    ],
    json_output: JsonOption = False,
) -> None:
    """Share a function's calls among its revisions."""
    wanted = parse_shares(shares)
    with connect() as client:
        result = client.set_traffic(name, wanted)
    if json_output:
        print_json(result)
    else:
        print_fields((r, f"{percent} %") for r, percent in result["traffic"].items())


def delete(name: NameArgument, json_output: JsonOption = False) -> None:
    """Remove a function with all its revisions and snapshots."""
    with connect() as client:
        client.delete(name)
    if json_output:
        print_json({"name": name, "deleted": True})
    else:
        say(f"{name} is deleted.")


def parse_shares(shares: list[str]) -> dict[str, int]:
    """`["a=90", "b=10"]` as percentages. Raises `UsageError` unless they add up to 100."""
    parsed: dict[str, int] = {}
    for share in shares:
        revision, _, percent = share.partition("=")
        if not revision or not percent.isdecimal():
            raise UsageError(f"{share!r} is not REVISION=PERCENT, such as embed-0a1b2c3d4e=90.")
        if revision in parsed:
            raise UsageError(f"The revision {revision} is given twice.")
        parsed[revision] = int(percent)
    if sum(parsed.values()) != 100:
        raise UsageError(f"The shares add up to {sum(parsed.values())} instead of 100 percent.")
    return parsed


def _print_replicas(replicas: list[ReplicaDocument]) -> None:
    """A table of those of a node, or of a cluster, which knows of pods alone."""
    if replicas[0]["pod"] is not None:
        print_table(
            (Column("pod"), Column("state"), Column("revision")),
            [(str(r["pod"]), r["state"], r["revision"]) for r in replicas],
            empty="",
        )
        return
    print_table(
        (
            Column("pid", right=True),
            Column("state"),
            Column("idle", right=True),
            Column("revision"),
        ),
        [(str(r["pid"]), r["state"], f"{r['idle_s']:.1f} s", r["revision"]) for r in replicas],
        empty="",
    )


def _description(function: FunctionDocument) -> list[tuple[str, str]]:
    parameters = function["interface"]["parameters"]
    result = function["interface"]["result"]
    takes = ", ".join(
        f"{p['name']}: {p['kind']}" + ("" if p["required"] else " (optional)") for p in parameters
    )
    rows = [
        ("name", function["name"]),
        ("description", function["description"]),
        ("url", function["url"] or _NO_URL),
        ("takes", takes or "nothing"),
        ("gives", ("a stream of " if result["streaming"] else "") + str(result["kind"])),
        ("state", function["state"]),
        ("deployed", local_time(function["created_at"])),
        ("snapshot", _snapshot(function["snapshot"], function["snapshot_reason"])),
    ]
    precision = function["snapshot"] and function["snapshot"]["precision"]
    if precision:
        rows.append(("precision", Precision.from_document(precision).summary()))
    rows += [("traffic", f"{percent} % {r}") for r, percent in function["traffic"].items()]
    if function["canary"] is not None:
        rows.append(("canary", canary_words(function["canary"])))
    rows += [
        ("subscription", f"{s['id']} {describe_filters(s)}") for s in function["subscriptions"]
    ]
    usual = Options(name=function["name"]).to_document()
    chosen = [f"{k}={v}" for k, v in function["options"].items() if usual.get(k) != v]
    rows.append(("options", ", ".join(chosen)))
    return [(name, value) for name, value in rows if value]


def _snapshot(snapshot: SnapshotDocument | None, reason: str | None) -> str:
    if snapshot is not None and snapshot["state"] == "quarantined":
        return reason or "quarantined"
    if snapshot is not None:
        return f"{size(snapshot['bytes'])}, {snapshot['digest'][:12]}"
    return f"none: {reason}" if reason else "none"
