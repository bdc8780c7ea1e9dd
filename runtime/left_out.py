"""Modules that libraries import and a start that somebody waits for does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def left_out(modules: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Has imports inside the block find modules of these names in which there are only these
    names, each being `Any`. Who imports one after it gets the real one."""
    stand_ins = {name: ModuleType(name) for name in modules if name not in sys.modules}
    for name, module in stand_ins.items():
        vars(module).update(dict.fromkeys(modules[name], Any))
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
