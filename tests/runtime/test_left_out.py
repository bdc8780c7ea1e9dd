"""What is left out of a start is there for who imports it later."""

from __future__ import annotations

import subprocess
import sys

import pytest

# How a fork server imports pydantic's core, and how a function's author makes a type of his own.
WORKER = """
from dsfn.runtime.left_out import left_out
from dsfn.runtime.worker.__main__ import NOT_NEEDED

with left_out(NOT_NEEDED):
    import pydantic_core
assert not {"pydantic_core.core_schema", "pydantic"} & set(sys.modules)
from pydantic_core import core_schema
import pydantic

class Even:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        return core_schema.int_schema(multiple_of=2)

print(pydantic.TypeAdapter(list[Even]).validate_json("[2, 4]"))
"""
POD = """
import logging
from dsfn.knative.pod.program import import_the_rest

import_the_rest()
left = {"logging.config", "configparser", "uvicorn.main", "click"} & set(sys.modules)
import logging.config
import configparser
from uvicorn.main import main
print(left, logging.config.dictConfig({"version": 1}), len(configparser.ConfigParser()))
"""


def outcome(program: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", f"import sys\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("program", "printed"), [(WORKER, "[2, 4]"), (POD, "set() None 1")])
def test_it_is_real_later(program: str, printed: str) -> None:
    assert outcome(program) == printed
