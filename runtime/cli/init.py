"""`dsfn init`: a directory with a function to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from dsfn.functions.errors import DsfnError, UsageError
from dsfn.functions.options import NAME_PATTERN
from dsfn.runtime.cli.options import JsonOption
from dsfn.runtime.cli.output import print_json, say

TEMPLATE_NAME = "my-function"
TEMPLATE_FILES = ("app.py", "test_app.py", "README.md")


def init(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the function and its directory.", show_default=False
        ),
    ],
    json_output: JsonOption = False,
) -> None:
    """Write a new function, ready to deploy, into the directory NAME."""
    if NAME_PATTERN.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is not a function's name: lower-case letters, digits and '-',"
            " a letter first, at most 63 characters."
        )
    directory = Path(name)
    try:
        directory.mkdir()
    except FileExistsError:
        raise DsfnError(f"{name} exists already; nothing was written.") from None
    template = files("dsfn.runtime.cli") / "template"
    for file_name in TEMPLATE_FILES:
        text = (template / f"{file_name}.template").read_text(encoding="utf-8")
        (directory / file_name).write_text(text.replace(TEMPLATE_NAME, name), encoding="utf-8")
    if json_output:
        print_json(
            {"name": name, "directory": str(directory.absolute()), "files": list(TEMPLATE_FILES)}
        )
    else:
        say(f"Wrote {', '.join(TEMPLATE_FILES)} into {name}/. Next: dsfn deploy {name}")
