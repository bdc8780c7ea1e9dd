"""`dsfn snapshot`: what there is, copies, pins, checks, and where a cold call's time went."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dsfn.functions.errors import DsfnError
from dsfn.runtime.cli.bars import print_bars, spans
from dsfn.runtime.cli.client import Client, ShowProgress
from dsfn.runtime.cli.documents import (
    ColdCallDocument,
    CopiedDocument,
    SnapshotRowDocument,
    SnapshotsDocument,
    SnapshotShowDocument,
    VerifiedReplicaDocument,
)
from dsfn.runtime.cli.options import JsonOption, NameArgument, connect, deployed_names, given_path
from dsfn.runtime.cli.output import (
    Column,
    complain,
    local_time,
    print_fields,
    print_json,
    print_table,
    say,
    size,
)

_SHORT = 12

SnapshotArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A function, a revision, or the first 8 or more digits of a digest.",
        autocompletion=deployed_names,
        show_default=False,
    ),
]


def list_snapshots(json_output: JsonOption = False) -> None:
    """List the snapshots that the node knows of."""
    with connect() as client:
        document = client.snapshots()
    if json_output:
        print_json(document)
        return
    print_table(
        (
            Column("digest"),
            Column("functions"),
            Column("size", right=True),
            Column("device"),
            Column("where"),
            Column("last used"),
            Column("notes"),
        ),
        [_row(snapshot) for snapshot in document["snapshots"]],
        empty="There are no snapshots.",
    )
    for line in _places(document):
        say(line)


def show(name: SnapshotArgument, json_output: JsonOption = False) -> None:
    """Show one snapshot: what is in it, where it is, how it has fared."""
    with connect() as client:
        document = client.snapshot(name)
    if json_output:
        print_json(document)
        return
    print_fields(_description(document))
    if document["fault"] is None and document["largest"]:
        say()
        print_table(
            (Column("largest"), Column("type"), Column("shape"), Column("size", right=True)),
            [
                (t["name"], t["dtype"], " x ".join(map(str, t["shape"])), size(t["bytes"]))
                for t in document["largest"]
            ],
            empty="",
        )


def verify(
    name: SnapshotArgument,
    replicas: Annotated[
        bool,
        typer.Option(
            "--replicas", help="Check what the function's replicas have in memory instead."
        ),
    ] = False,
    json_output: JsonOption = False,
) -> int:
    """Read every file against its digest, and restore the snapshot in a fresh process if a revision
    has it. That ends a quarantine when it works."""
    if replicas:
        return _verify_replicas(name, json_output)
    with connect() as client:
        document = client.verify_snapshot(name)
    short = document["digest"][:_SHORT]
    if json_output:
        print_json(document)
    elif document["sound"]:
        checked = sum(file["bytes"] for file in document["files"])
        tried = "a trial restore worked"
        if not document["restored"]:
            tried = "and no more was tried, as no revision restores it"
        say(f"Snapshot {short} is sound: {size(checked)} were read, {tried}.")
        _say_reinstated(document["reinstated"])
    if not document["sound"]:
        complain(
            f"Snapshot {short} is not sound. {document['reason']} `dsfn snapshot pull` brings the"
            " store's copy, where there is one; the next `dsfn deploy` captures it anew."
        )
    return 0 if document["sound"] else 1


def push(name: SnapshotArgument, json_output: JsonOption = False) -> None:
    """Copy a snapshot to the store."""
    _copy(lambda client, progress: client.push_snapshot(name, progress), json_output)


def pull(name: SnapshotArgument, json_output: JsonOption = False) -> None:
    """Copy a snapshot from the store to the node's disk, in the place of a damaged one. One that
    was quarantined is verified then."""
    _copy(lambda client, progress: client.pull_snapshot(name, progress), json_output)


def prefetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="The functions.",
            autocompletion=deployed_names,
            show_default=False,
        ),
    ],
    json_output: JsonOption = False,
) -> int:
    """Bring the snapshots of functions as near to where they run as the node can."""
    with connect() as client, _progress(quiet=json_output) as progress:
        found = client.prefetch_snapshots(names, progress)
    if json_output:
        print_json(found)
    else:
        print_table(
            (Column("function"), Column("snapshot"), Column("where")),
            [(f["function"], (f["digest"] or "")[:_SHORT], ", ".join(f["tiers"])) for f in found],
            empty="",
        )
    for each in found:
        if each["reason"] is not None:
            complain(f"{each['function']}: {each['reason']}")
    return 1 if any(each["reason"] is not None for each in found) else 0


def pin(name: SnapshotArgument, json_output: JsonOption = False) -> None:
    """Keep a snapshot on the node's disk, whatever else needs its room."""
    _pin(name, True, json_output)


def unpin(name: SnapshotArgument, json_output: JsonOption = False) -> None:
    """Let a snapshot leave the node's disk again."""
    _pin(name, False, json_output)


def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Delete from the node's disk what no revision needs and what is over the limit."""
    with connect() as client:
        document = client.prune_snapshots(dry_run)
    if json_output:
        print_json(document)
        return
    print_table(
        (Column("digest"), Column("size", right=True), Column("reason")),
        [(p["digest"][:_SHORT], size(p["bytes"]), p["reason"]) for p in document["pruned"]],
        empty="There is nothing to delete.",
    )
    if document["pruned"]:
        verb = "Would free" if dry_run else "Freed"
        say(f"{verb} {size(document['freed_bytes'])}.")


def timeline(
    name: NameArgument,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=given_path, help="Draw it into this file, too."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show where the time of a function's last cold call went."""
    with connect() as client:
        document = client.timeline(name)
    calls = document["calls"]
    if not calls and (png is not None or not json_output):
        raise DsfnError(f"No call of {name} has waited for a replica since the node started.")
    if png is not None:
        _draw(png, name, calls[0])
    if json_output:
        print_json(document)
    else:
        _print_timeline(calls[0])


def _row(snapshot: SnapshotRowDocument) -> tuple[str, ...]:
    notes = ["pinned"] if snapshot["pinned"] else []
    notes += ["quarantined"] if snapshot["quarantine"] else []
    used_at = snapshot["used_at"]
    return (
        snapshot["digest"][:_SHORT],
        ", ".join(snapshot["functions"]) or "none",
        size(snapshot["bytes"]),
        snapshot["device"] or "",
        ", ".join(snapshot["tiers"]) or "nowhere",
        local_time(used_at) if used_at is not None else "never",
        ", ".join(notes),
    )


def _places(document: SnapshotsDocument) -> Iterator[str]:
    disk, store = document["disk"], document["store"]
    limit = f" of {size(disk['max_bytes'])}" if disk["max_bytes"] is not None else ""
    yield f"Disk: {size(disk['used_bytes'])}{limit}"
    if store is not None:
        yield f"Store: {store['url']}"
        if store["fault"] is not None:
            yield f"The store was not asked: {store['fault']}"


def _description(snapshot: SnapshotShowDocument) -> list[tuple[str, str]]:
    store, used_at = snapshot["store"], snapshot["used_at"]
    stored = store["state"] + (f": {store['reason']}" if store["reason"] else "")
    rows = [
        ("digest", snapshot["digest"]),
        ("functions", ", ".join(snapshot["functions"])),
        ("revisions", ", ".join(snapshot["revisions"])),
        ("size", size(snapshot["bytes"])),
        ("device", snapshot["device"] or ""),
        ("where", ", ".join(snapshot["tiers"]) or "nowhere"),
        ("store", stored),
        ("pinned", "yes" if snapshot["pinned"] else "no"),
        ("quarantine", snapshot["quarantine"] or ""),
        ("last used", local_time(used_at) if used_at is not None else "never"),
        ("not readable", snapshot["fault"] or ""),
    ]
    contents = _contents(snapshot) if snapshot["fault"] is None else []
    return [(name, value) for name, value in (*rows, *contents) if value]


def _contents(snapshot: SnapshotShowDocument) -> list[tuple[str, str]]:
    golden = snapshot["golden"]
    rows = [
        ("captured with", f"Python {snapshot['python']}, torch {snapshot['torch']}"),
        ("libraries", ", ".join(f"{k} {v}" for k, v in snapshot["libraries"].items())),
        ("tensors", str(snapshot["tensors"])),
        ("golden output", f"{golden['content_type']}, {size(golden['bytes'])}" if golden else ""),
    ]
    for slab in snapshot["slabs"]:
        words = f"{size(slab['bytes'])} on {slab['device']}, {slab['storages']} storages"
        known = f", {slab['first_use']} of them in order of use" if slab["first_use"] else ""
        rows.append(("slab", words + known))
    return rows


def _verify_replicas(name: str, json_output: bool) -> int:
    with connect() as client:
        document = client.verify_replicas(name)
    found = document["replicas"]
    if json_output:
        print_json(document)
    else:
        print_table(
            (
                Column("pid", right=True),
                Column("revision"),
                Column("state"),
                Column("slabs"),
                Column("weights"),
                Column("ms", right=True),
            ),
            [_verified_row(replica) for replica in found],
            empty=f"{name} has no replica.",
        )
    for replica in found:
        if replica["reason"] is not None:
            complain(f"Replica {replica['pid']}: {replica['reason']}")
    return 1 if any(replica["reason"] is not None for replica in found) else 0


def _verified_row(replica: VerifiedReplicaDocument) -> tuple[str, ...]:
    weights = {True: "intact", False: "changed", None: "not checked"}[replica["intact"]]
    return (
        str(replica["pid"]),
        replica["revision"],
        replica["state"],
        ", ".join(slab["device"] for slab in replica["slabs"]),
        weights,
        f"{replica['check_us'] / 1000:.1f}" if replica["slabs"] else "",
    )


def _copy(work: Callable[[Client, ShowProgress], CopiedDocument], json_output: bool) -> None:
    with connect() as client, _progress(quiet=json_output) as progress:
        document = work(client, progress)
    if json_output:
        print_json(document)
    else:
        where = ", ".join(document["tiers"])
        say(f"Snapshot {document['digest'][:_SHORT]} ({size(document['bytes'])}): {where}.")
        _say_reinstated(document["reinstated"])


def _say_reinstated(revisions: Sequence[str]) -> None:
    if revisions:
        say(f"Its quarantine has ended: {', '.join(revisions)} will start from it again.")


def _pin(name: str, pinned: bool, json_output: bool) -> None:
    with connect() as client:
        document = client.pin_snapshot(name, pinned)
    if json_output:
        print_json(document)
    else:
        how = "pinned" if pinned else "pinned no more"
        say(f"Snapshot {document['digest'][:_SHORT]} is {how}.")


@contextmanager
def _progress(quiet: bool) -> Iterator[ShowProgress]:
    """Shows how far a copy is, on a terminal alone."""
    if quiet or not sys.stderr.isatty():
        yield lambda done_bytes, total_bytes: None
        return
    from rich.console import Console

    with Console(stderr=True).status("Copying") as status:
        yield lambda done, total: status.update(f"Copying: {size(done)} of {size(total)}")


def _print_timeline(call: ColdCallDocument) -> None:
    found = spans(call["phases_us"])
    say(_subtitle(call))
    print_bars(found, max(span.end_us for span in found), beside_result=False)


def _draw(path: Path, name: str, call: ColdCallDocument) -> None:
    from dsfn.runtime.cli.timeline_picture import draw_timeline

    found = spans(call["phases_us"])
    total_ms = max(span.end_us for span in found) / 1000
    title = f"{name}: a cold call, {total_ms:,.1f} ms from its arrival to its answer"
    draw_timeline(path, title, _subtitle(call), found)


def _subtitle(call: ColdCallDocument) -> str:
    return f"{call['revision']} on {call['device_class']}, {local_time(call['at'])}"
