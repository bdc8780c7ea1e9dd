"""`dsfn`: every command, and what a failure looks like.

A usage mistake exits with 2, any other failure with 1, Ctrl-C with 130, a command
whose reader has gone with 141. Mistakes and failures are one sentence on standard
error. Modules that take long to import are imported by the command that needs them.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import dsfn
from dsfn.functions.errors import DeployError, DsfnError, HandlerRaised, UsageError
from dsfn.runtime.cli import (
    bill,
    budgets,
    context,
    cost,
    deadletters,
    deploy,
    doctor,
    functions,
    init,
    invoices,
    invoke,
    keys,
    ledger,
    logs,
    node,
    rates,
    runs,
    snapshot,
    subscriptions,
    workflow,
    workflow_plan,
)
from dsfn.runtime.cli.daemon import USAGE
from dsfn.runtime.cli.output import OutputFailed, complain, item_words, result_stream, say
from dsfn.runtime.cli.place import data_dir
from dsfn.runtime.cli.targeting import targeted

FAILURE = 1
INTERRUPTED = 130
# What a shell shows for a program that SIGPIPE ended.
READER_GONE = 141

app = typer.Typer(
    name="dsfn",
    help="Run AI functions that cost nothing while nobody calls them.",
    epilog="DSFN_DATA chooses the data directory of `up` and `down`, DSFN_TARGET a context,"
    " DSFN_URL the node itself, and DSFN_API_KEY is the key to it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def add_group(name: str, words: str) -> typer.Typer:
    """Commands under one word, which alone shows them, as `dsfn` alone does."""
    group = typer.Typer(help=words, rich_markup_mode=None, invoke_without_command=True)

    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            say(context.get_help())

    group.callback(help=words)(show_help)
    app.add_typer(group, name=name)
    return group


app.command("up")(node.up)
app.command("down")(node.down)
app.command("status")(targeted(node.status))
app.command("init")(init.init)
app.command("deploy")(targeted(deploy.deploy))
app.command("invoke")(targeted(invoke.invoke))
app.command("list")(targeted(functions.list_functions))
app.command("describe")(targeted(functions.describe))
app.command("logs")(targeted(logs.logs))
app.command("history")(targeted(functions.history))
app.command("rollback")(targeted(functions.rollback))
app.command("traffic")(targeted(functions.traffic))
app.command("delete")(targeted(functions.delete))
app.command("subscribe")(targeted(subscriptions.subscribe))
app.command("unsubscribe")(targeted(subscriptions.unsubscribe))
workflows = add_group(
    "workflow", "Functions put together: what there is, how it looks, and to run it."
)
workflows.command("list")(targeted(workflow.list_workflows))
workflows.command("show")(targeted(workflow.show))
workflows.command("run")(targeted(workflow.run))
workflows.command("plan")(targeted(workflow_plan.plan))
workflows.command("history")(targeted(workflow.history))
workflows.command("delete")(targeted(workflow.delete))
runs_of_workflows = add_group("runs", "Runs of workflows: what they are at and what came of them.")
runs_of_workflows.command("list")(targeted(runs.list_runs))
runs_of_workflows.command("show")(targeted(runs.show))
runs_of_workflows.command("cost")(targeted(runs.cost))
runs_of_workflows.command("cancel")(targeted(runs.cancel))
runs_of_workflows.command("retry")(targeted(runs.retry))
runs_of_workflows.command("logs")(targeted(runs.logs))
letters = add_group(
    "deadletters", "What was given up: events that nobody took, and runs that failed."
)
letters.command("list")(targeted(deadletters.list_letters))
letters.command("show")(targeted(deadletters.show))
letters.command("replay")(targeted(deadletters.replay))
bills = add_group("bill", "What was used and what it costs.")
bills.command("report")(targeted(bill.report))
bills.command("close")(targeted(invoices.close))
bills.command("list")(targeted(invoices.list_invoices))
bills.command("show")(targeted(invoices.show))
bills.command("verify")(targeted(invoices.verify))
bills.command("credit")(targeted(invoices.credit))
bills.command("correct")(targeted(invoices.correct))
costs = add_group("cost", "What would have cost less.")
costs.command("advise")(targeted(cost.advise))
cards = add_group("rates", "What usage costs, and from when on.")
cards.command("list")(targeted(rates.list_rates))
cards.command("show")(targeted(rates.show))
cards.command("set")(targeted(rates.set_rates))
cards.command("check")(rates.check)
ledgers = add_group("ledger", "The books: everything that was used, and proof of it.")
ledgers.command("verify")(ledger.verify)
ledgers.command("migrate")(ledger.migrate)
ledgers.command("rotate-key")(ledger.rotate_key)
money = add_group("budgets", "How much may be used, and what happens when it has been.")
money.command("set")(targeted(budgets.set_budget))
money.command("list")(targeted(budgets.list_budgets))
money.command("remove")(targeted(budgets.remove))
api_keys = add_group("keys", "API keys: who may use the node, for what, and on whose account.")
api_keys.command("create")(targeted(keys.create))
api_keys.command("list")(targeted(keys.list_keys))
api_keys.command("revoke")(targeted(keys.revoke))
snapshots = add_group("snapshot", "The memory of loaded functions, and where it is kept.")
snapshots.command("list")(targeted(snapshot.list_snapshots))
snapshots.command("show")(targeted(snapshot.show))
snapshots.command("verify")(targeted(snapshot.verify))
snapshots.command("push")(targeted(snapshot.push))
snapshots.command("pull")(targeted(snapshot.pull))
snapshots.command("prefetch")(targeted(snapshot.prefetch))
snapshots.command("pin")(targeted(snapshot.pin))
snapshots.command("unpin")(targeted(snapshot.unpin))
snapshots.command("prune")(targeted(snapshot.prune))
snapshots.command("timeline")(targeted(snapshot.timeline))
contexts = add_group("context", "Whom commands talk to: nodes and clusters, by names.")
contexts.command("list")(context.list_contexts)
contexts.command("show")(context.show)
contexts.command("use")(context.use)
contexts.command("set")(context.set_context)
contexts.command("remove")(context.remove)
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
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="An API key, instead of DSFN_API_KEY."),
    ] = None,
) -> None:
    """Options of `dsfn` itself."""
    if key is not None:
        os.environ["DSFN_API_KEY"] = key


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = result_stream(sys.stdout)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        code = _outcome(arguments)
        sys.stdout.flush()
    except OutputFailed as failure:
        if isinstance(failure.reason, BrokenPipeError):
            return READER_GONE
        complain(f"The output could not be written: {failure.reason.strerror}.")
        return FAILURE
    return code


def _outcome(arguments: list[str]) -> int:
    try:
        code = app(arguments or ["--help"], prog_name="dsfn", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        complain(_sentence(error.format_message()))
        return error.exit_code
    except UsageError as error:
        complain(error.message)
        return USAGE
    except DsfnError as error:
        _complain_of(error)
        return FAILURE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OutputFailed:
        raise
    # Whatever went wrong inside dsfn itself: the person gets a sentence, the log the traceback.
    except Exception as error:  # noqa: BLE001
        complain(_unexpected(error))
        return FAILURE


def _sentence(words: str) -> str:
    """What typer says, on one line, with one full stop and without its checker's words."""
    text = " ".join(words.replace("Value error, ", "").split())
    return text if text.endswith(("?", ".")) else f"{text}."


def _complain_of(error: DsfnError) -> None:
    """The sentence; before it, where the author's own code failed, their traceback."""
    own_traceback = error.fields.get("traceback")
    if isinstance(error, (DeployError, HandlerRaised)) and own_traceback:
        complain(str(own_traceback).rstrip("\n"))
    complain(_located(error))


def _located(error: DsfnError) -> str:
    """The sentence; of a run that failed it says which step did."""
    run, step = error.fields.get("run"), error.fields.get("step")
    if run is None or step is None:
        return error.message
    return f"Step {step}{item_words(error.fields.get('item'))} of run {run}: {error.message}"


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
