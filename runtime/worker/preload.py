"""Importing modules into the fork server, each only after a trial in a child of its own.

A module that raises, hangs, starts a thread or touches a GPU while it is imported would
spoil every worker to come; in a trial it spoils nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import field
from typing import NoReturn

from dsfn.functions.values import dataclass
from dsfn.runtime.worker.linux import kill_group, thread_count, uses_gpu
from dsfn.runtime.worker.messages import Preload, Preloaded
from dsfn.snapshots.parent import die_with_parent

_MAX_REASON_BYTES = 1000
_SAFE = b"safe"


@dataclass(eq=False, slots=True)
class Trial:
    """A child that imports `modules`; its verdict comes through the pipe `verdict`."""

    modules: tuple[str, ...]
    pid: int
    verdict: int
    deadline_s: float

    @classmethod
    def start(cls, modules: tuple[str, ...], timeout_s: float, inherited: Iterable[int]) -> Trial:
        """Forks the child, which closes the `inherited` descriptors that are its parent's."""
        parent, (read_end, write_end) = os.getpid(), os.pipe()
        pid = os.fork()
        if pid == 0:
            _try(modules, parent, write_end, (read_end, *inherited))
        os.close(write_end)
        return cls(modules, pid, read_end, time.monotonic() + timeout_s)

    def end(self) -> str | None:
        """Ends the child; why its modules must not be imported, or None."""
        late = time.monotonic() >= self.deadline_s
        kill_group(self.pid)
        os.waitpid(self.pid, 0)
        # Everything that it wrote is in the pipe: a verdict is smaller than PIPE_BUF.
        os.set_blocking(self.verdict, False)
        try:
            verdict = os.read(self.verdict, _MAX_REASON_BYTES)
        except BlockingIOError:
            verdict = b""  # a grandchild holds the other end
        os.close(self.verdict)
        if verdict == _SAFE:
            return None
        if verdict:
            return verdict.decode(errors="replace")
        return "importing it takes too long" if late else "importing it ends the process"


@dataclass(eq=False, slots=True)
class Preloading:
    """One `Preload` request on its way: first all modules at once, then, where that fails,
    those of each top-level package by themselves."""

    request: Preload
    modules: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    _groups: deque[tuple[str, ...]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        wanted = tuple(m for m in dict.fromkeys(self.request.modules) if m not in sys.modules)
        if wanted:
            self._groups.append(wanted)

    def next_group(self) -> tuple[str, ...] | None:
        """What to try next, or None when all is decided."""
        return self._groups.popleft() if self._groups else None

    def judge(self, group: tuple[str, ...], reason: str | None) -> None:
        """Imports a group that its trial found safe; splits or rejects one that it did not."""
        packages: dict[str, list[str]] = {}
        for module in group:
            packages.setdefault(module.partition(".")[0], []).append(module)
        if reason is None:
            self._import(group)
        elif len(packages) > 1:
            self._groups.extend(tuple(modules) for modules in packages.values())
        else:
            self.rejected.update(dict.fromkeys(packages, reason))

    def answer(self) -> Preloaded:
        """What came of it."""
        return Preloaded(self.modules, self.rejected)

    def _import(self, group: tuple[str, ...]) -> None:
        for module in group:
            try:
                importlib.import_module(module)
            except Exception as error:  # noqa: BLE001  a module may raise anything
                self.rejected[module] = _sentence(error)
            else:
                self.modules.append(module)


def _try(modules: tuple[str, ...], parent: int, verdict: int, inherited: Iterable[int]) -> NoReturn:
    """The child's part."""
    try:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        os.setsid()
        for descriptor in inherited:
            os.close(descriptor)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.write(verdict, (_objection(modules).encode() or _SAFE)[:_MAX_REASON_BYTES])
    finally:
        os._exit(0)


def _objection(modules: tuple[str, ...]) -> str:
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001  sys.exit() is no success either
        return _sentence(error)
    if thread_count() > 1:
        return "importing it starts a thread"
    if uses_gpu():
        return "importing it initialises a GPU"
    return ""


def _sentence(error: BaseException) -> str:
    return f"importing it raises {type(error).__name__}: {error}"
