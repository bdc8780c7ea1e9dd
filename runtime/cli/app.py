"""`dsfn`: every command, and what a failure looks like.

A usage mistake exits with 2, any other failure with 1, Ctrl-C with 130; each is
one sentence on standard error. Modules that take long to import are imported by
the command that needs them.
"""

from __future__ import annotations

import io
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import dsfn
from dsfn.functions.errors import DeployError, DsfnError, HandlerRaised, UsageError
from dsfn.runtime.cli import (
    bill,
    deploy,
    doctor,
    functions,
    init,
    invoke,
    logs,
    node,
    subscriptions,
)
from dsfn.runtime.cli.output import complain, say
from dsfn.runtime.cli.place import data_dir

FAILURE = 1
USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="dsfn",
    help="Run AI functions that cost nothing while nobody calls them.",
    epilog="DSFN_DATA chooses the data directory of `up` and `down`, DSFN_URL the node.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
bills = typer.Typer(help="What was used and what it costs.", rich_markup_mode=None)

app.command("up")(node.up)
app.command("down")(node.down)
app.command("status")(node.status)
app.command("init")(init.init)
app.command("deploy")(deploy.deploy)
app.command("invoke")(invoke.invoke)
app.command("list")(functions.list_functions)
app.command("describe")(functions.describe)
app.command("logs")(logs.logs)
app.command("history")(functions.history)
app.command("rollback")(functions.rollback)
app.command("traffic")(functions.traffic)
app.command("delete")(functions.delete)
app.command("subscribe")(subscriptions.subscribe)
app.command("unsubscribe")(subscriptions.unsubscribe)
app.add_typer(bills, name="bill")
bills.command("report")(bill.report)
app.command("doctor")(doctor.doctor)


def _print_version(chosen: bool) -> None:
    if chosen:
        say(f"dsfn {dsfn.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `dsfn` itself."""


@bills.callback()
def bill_options() -> None:
    """Makes `report` a command of its own although it is the only one."""


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A result may hold characters that the terminal's encoding has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        code = app(arguments or ["--help"], prog_name="dsfn", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        complain(" ".join(error.format_message().split()).removesuffix(".") + ".")
        return error.exit_code
    except UsageError as error:
        complain(error.message)
        return USAGE
    except DsfnError as error:
        _complain_of(error)
        return FAILURE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    # Whatever went wrong inside dsfn itself: the person gets a sentence, the log the traceback.
    except Exception as error:  # noqa: BLE001
        complain(_unexpected(error))
        return FAILURE


def _complain_of(error: DsfnError) -> None:
    """The sentence; before it, where the author's own code failed, their traceback."""
    own_traceback = error.fields.get("traceback")
    if isinstance(error, (DeployError, HandlerRaised)) and own_traceback:
        complain(str(own_traceback).rstrip("\n"))
    complain(error.message)


def _unexpected(error: Exception) -> str:
    """Writes the traceback to the command line's log and says where that is."""
    reason = f"dsfn failed unexpectedly ({type(error).__name__}: {error})"
    log: Path = data_dir() / "cli.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return f"{reason}, and the traceback could not be written to {log}."
    return f"{reason}; the traceback is in {log}."
