"""`dsfn up`, `down` and `status`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dsfn.runtime.cli import daemon
from dsfn.runtime.cli.documents import StatusDocument, UpDocument
from dsfn.runtime.cli.memory import memory_rows
from dsfn.runtime.cli.options import JsonOption, connect, given_path
from dsfn.runtime.cli.output import complain, local_time, print_fields, print_json, say
from dsfn.runtime.cli.place import data_dir
from dsfn.runtime.config import DEFAULT_HOST, DEFAULT_PORT, Settings, load_settings

_POLL_S = 0.05


def up(
    host: Annotated[
        str | None, typer.Option(help=f"Address to listen at; {DEFAULT_HOST} without it.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help=f"Port; {DEFAULT_PORT} without it, 0 for any free one.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=given_path, help="Data directory instead of DSFN_DATA."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the node runs in the background.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Start a node: in the foreground until Ctrl-C, or with --detach in the background."""
    settings = load_settings(host, port, data)
    if detach:
        node = daemon.start(_arguments(settings), settings.data_dir)
        if json_output:
            print_json(_up_document(node.url, node.pid, settings.data_dir))
        else:
            say(f"dsfn listens on {node.url} (pid {node.pid}), data in {settings.data_dir}")
        return
    # If the node fails unexpectedly, `--data` is where its traceback belongs.
    os.environ["DSFN_DATA"] = str(settings.data_dir)
    from dsfn.runtime.node import run_node

    def announce(url: str) -> None:
        if json_output:
            print_json(_up_document(url, os.getpid(), settings.data_dir))
        else:
            say(f"dsfn listens on {url}, data in {settings.data_dir}")
        sys.stdout.flush()

    run_node(settings, announce)


def down(json_output: JsonOption = False) -> None:
    """Stop the node of the data directory."""
    directory = data_dir()
    node = daemon.running_node(directory)
    if node is not None and not daemon.stop(node):
        complain("The node did not stop within 30 s and was killed.")
    if json_output:
        print_json({"stopped": node is not None, "pid": node.pid if node else None})
    elif node is None:
        say(f"No node runs in {directory}.")
    else:
        say(f"The node (pid {node.pid}) is stopped.")


def status(json_output: JsonOption = False) -> None:
    """Show how the node is."""
    with connect() as client:
        document = client.status()
    if json_output:
        print_json(document)
    else:
        print_fields(_rows(document))


def _arguments(settings: Settings) -> list[str]:
    return [
        *("--host", settings.host),
        *("--port", str(settings.port)),
        *("--data", str(settings.data_dir)),
    ]


def _up_document(url: str, pid: int, directory: Path) -> UpDocument:
    return {"url": url, "pid": pid, "data_dir": str(directory)}


def _rows(status: StatusDocument) -> list[tuple[str, str]]:
    replicas = ", ".join(f"{count} {state}" for state, count in status["replicas"].items() if count)
    events = status["events"]
    return [
        ("url", status["url"]),
        ("pid", str(status["pid"])),
        ("version", status["version"]),
        ("started", local_time(status["started_at"])),
        ("data", status["data_dir"]),
        ("device", status["device_class"]),
        *memory_rows(status["memory"], status["memory_fault"]),
        ("functions", str(status["functions"])),
        ("replicas", replicas or "none"),
        ("events", f"{events['queued']} queued, {events['dead']} given up"),
    ]
