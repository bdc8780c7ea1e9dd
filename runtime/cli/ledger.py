"""`dsfn ledger verify`."""

from __future__ import annotations

from dsfn.runtime.cli.options import JsonOption
from dsfn.runtime.cli.output import Column, complain, print_json, print_table, say
from dsfn.runtime.cli.place import data_dir
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
