"""What pods import is in a node's memory before they come, and what cannot be harms nobody."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from deadlines import WITHIN_S, eventually
from live_agent import KEY, LiveAgent
from live_pod import TestStore
from page_cache import evict, resident_share

from dsfn.knative.agent.address import NodeSocket
from dsfn.knative.agent.warming import keep_warm
from dsfn.knative.pod.agent import Agent

# Of these names pods have libraries; those of the tests are found before them.
FIRST, SECOND = "soundfile", "safetensors"
PROGRAM = "dsfn.knative.agent.rehearsal"
# Nobody listens there: these agents have no rows for it.
CONTROL = "http://127.0.0.1:1"
LARGE = f'"""{"large " * 100_000}"""\n'
# Says which process imports it, and how much that one leaves to others.
TELLING = "import os, pathlib\npathlib.Path(__file__, '..', 'told').resolve().open('a').write("
TELLING += "f'{os.getpid()} {os.nice(0)}\\n')\n"
HANGING = f"{TELLING}import time\ntime.sleep(100_000)\n"
BROKEN = f"{TELLING}raise OSError('no codec is found')\n"

Library = Callable[[str, str], Path]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Writes a library of this name and source that processes started from now on find; its
    file."""
    place = tmp_path / "libraries"
    found_before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{place}{os.pathsep}{found_before}")

    def write(name: str, source: str) -> Path:
        module = place / name / "__init__.py"
        module.parent.mkdir(parents=True)
        module.write_text(source, encoding="utf-8")
        return module

    return write


@pytest.fixture
def agent(tmp_path: Path, directory: TestStore) -> Iterator[LiveAgent]:
    """One that is not started yet."""
    told = {"DSFN_LIBRARIES": f"{FIRST},{SECOND}", "DSFN_API_KEY": KEY}
    agent = LiveAgent(tmp_path / "agent", directory, CONTROL, told)
    yield agent
    if agent.process is not None:
        agent.kill()


def told_by(module: Path) -> list[tuple[int, int]]:
    """The process and the niceness of each import so far."""
    try:
        lines = (module.parent / "told").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [(int(pid), int(nice)) for pid, nice in map(str.split, lines)]


def evicted(module: Path) -> None:
    evict(module)
    if resident_share(module):
        pytest.skip("files of this directory cannot leave the memory")


def test_what_pods_import_is_in_memory_after_the_agents_start(
    agent: LiveAgent, library: Library
) -> None:
    first, second = library(FIRST, LARGE + TELLING), library(SECOND, LARGE)
    evicted(first)
    evicted(second)
    agent.start()
    eventually(lambda: resident_share(first) == resident_share(second) == 1, "all of both")
    ((pid, nice),) = eventually(lambda: told_by(first), "the import to be told")
    assert agent.process is not None and pid != agent.process.pid
    assert nice == 19


def test_a_library_that_cannot_be_imported_is_told_and_costs_the_others_nothing(
    agent: LiveAgent, library: Library
) -> None:
    library(FIRST, BROKEN)
    second = library(SECOND, LARGE)
    evicted(second)
    agent.start()
    eventually(lambda: resident_share(second) == 1, "the other library")
    eventually(lambda: f"{FIRST}: OSError: no codec is found" in agent.log, "it to be told")
    assert agent.stop() == 0, agent.log


def test_what_goes_wrong_each_time_is_told_once(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    broken = library(FIRST, BROKEN)
    keep_warm_until(lambda: len(told_by(broken)) >= 3, keep_warm([FIRST], every_s=0))
    assert [each.getMessage() for each in caplog.records] == [
        "Not all that pods import is in memory before they come:"
        f" {FIRST}: OSError: no codec is found"
    ]


def test_an_import_that_takes_too_long_is_ended(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    library(FIRST, HANGING)
    ended_when_told = []

    def told() -> bool:
        if caplog.records:
            ended_when_told.append(not importing())
        return bool(caplog.records)

    keep_warm_until(told, keep_warm([FIRST], limit_s=0.5))
    assert "takes more than 0.5 s" in caplog.records[0].getMessage()
    assert ended_when_told == [True]


@pytest.mark.parametrize("end", [LiveAgent.stop, LiveAgent.kill])
def test_an_import_that_hangs_keeps_no_pod_waiting_and_ends_with_the_agent(
    agent: LiveAgent, library: Library, end: Callable[[LiveAgent], object]
) -> None:
    module = library(FIRST, HANGING)
    agent.start()
    ((pid, _),) = eventually(lambda: told_by(module), "the import to begin")
    process = os.pidfd_open(pid)
    try:
        with closing(Agent(NodeSocket(agent.socket), "pod", KEY)) as pod:
            asyncio.run(pod.ask({"do": "hello"}))
        end(agent)
        assert select.select([process], [], [], WITHIN_S)[0]
    finally:
        os.close(process)


def keep_warm_until(condition: Callable[[], bool], keeping: Coroutine[None, None, None]) -> None:
    """Runs it until then, and leaves no process of it."""

    async def run() -> None:
        task = asyncio.create_task(keeping)
        try:
            await asyncio.to_thread(eventually, condition, "it to come so far")
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert not importing()


def importing() -> list[int]:
    """The processes of this one that import ahead of pods."""
    return [each.pid for each in psutil.Process().children() if PROGRAM in each.cmdline()]
