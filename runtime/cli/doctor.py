"""`dsfn doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dsfn.runtime.cli.options import JsonOption
from dsfn.runtime.cli.output import Column, print_json, print_table, say

if TYPE_CHECKING:
    from dsfn.runtime.cli.checks import Finding


def doctor(json_output: JsonOption = False) -> None:
    """Check this machine and say what is missing and how to get it."""
    from dsfn.runtime.cli.checks import CHECKS

    findings = [check() for check in CHECKS]
    if json_output:
        print_json([finding.to_document() for finding in findings])
    else:
        _print(findings)
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    print_table(
        (Column("check"), Column("state"), Column("found")),
        [(f.check, f.state, f.found) for f in findings],
        empty="",
    )
    for finding in findings:
        if finding.remedy:
            say(f"{finding.check}: {finding.remedy}")
