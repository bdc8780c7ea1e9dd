"""A fresh fork that is to run code of functions beside the platform's keys: see
`dsfn.runtime.deploy.confinement`."""

from __future__ import annotations

import os
import tempfile

from dsfn.runtime.landlock import enter


def confine(rules: int, home: str) -> None:
    """Holds this process to the rules, with a home of its own. Raises `OSError`."""
    enter(rules)
    os.environ.update(HOME=home, TMPDIR=home)
    tempfile.tempdir = None  # what the fork server has found
