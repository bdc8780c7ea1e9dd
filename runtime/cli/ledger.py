"""`dsfn ledger verify|migrate|rotate-key`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.options import JsonOption
from dsfn.runtime.cli.output import Column, complain, print_json, print_table, say
from dsfn.runtime.cli.place import data_dir
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import load_settings


def verify(json_output: JsonOption = False) -> int:
    """Check every row, sum and signature of the data directory's ledger."""
    # What reads a ledger takes longer to import than most commands take.
    from dsfn.runtime.notary.checking import check_ledger

    found = check_ledger(load_settings(data_dir=data_dir()))
    if json_output:
        print_json(found.to_document())
    elif found.ok:
        say(f"The ledger is right: {found.rows} rows, {found.checkpoints} checkpoints.")
    else:
        print_table(
            (Column("row", right=True), Column("problem"), Column("what is wrong")),
            [
                ("" if problem.row is None else str(problem.row), problem.kind, problem.detail)
                for problem in found.problems
            ],
            empty="",
        )
    if not found.ok:
        complain(f"The ledger is not right: {len(found.problems)} problems.")
    return 0 if found.ok else 1


def migrate(
    to: Annotated[str, typer.Option(metavar="URL", help="postgresql://USER@HOST:PORT/DATABASE")],
    json_output: JsonOption = False,
) -> None:
    """Copy the ledger of a node that is stopped to PostgreSQL, and prove that both are the same."""
    from dsfn.billing.spool import rows_in
    from dsfn.runtime.ledgers import FILE_NAME, require_psycopg, settle
    from dsfn.runtime.notary.checking import evidence_of

    require_psycopg()
    from dsfn.billing.moving import move

    settings = load_settings(data_dir=data_dir())
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        raise UsageError(f"There is no {FILE_NAME} in {settings.data_dir}.")
    if settings.ledger and rows_in(settings.data_dir):
        raise UsageError(
            f"Usage waits in {settings.data_dir} for a ledger: start and stop the node once, with"
            " the `ledger` in config.toml that it had."
        )
    settle(settings)
    moved = move(path, to, evidence_of(settings), _progress)
    if json_output:
        print_json(moved.to_document())
        return
    say(
        f"Both ledgers have the same {moved.rows} rows, hashes, sums and balances,"
        f" {moved.checkpoints} checkpoints, {moved.cards} rate cards, {moved.months} closed months"
        f" and {moved.documents} documents, and the check finds nothing wrong in either."
    )
    say("To use the new one, set `ledger` in [billing] of config.toml to its URL.")


def rotate_key(json_output: JsonOption = False) -> None:
    """Have a new key sign the ledger of a node that is stopped; the old one signs that, too."""
    from dsfn.runtime.notary.rotation import rotate_key as rotate

    key = rotate(load_settings(data_dir=data_dir()), SystemClock())
    if json_output:
        print_json({"key": key.public_key})
        return
    say(f"The ledger is signed with a new key from now on: {key.public_key}.")


def _progress(rows: int, of_rows: int) -> None:
    """Tells a person who watches how far it is."""
    if sys.stderr.isatty():
        end = "\n" if rows == of_rows else ""
        sys.stderr.write(f"\r{rows} of {of_rows} rows{end}")
        sys.stderr.flush()
