from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker_client import (
    ForkServer,
    Worker,
    fork_server,
    wait_until_gone,
    write_app,
)

from dsfn.runtime.worker.frames import Kind

Spawn = Callable[[], Worker]

ENDINGS = """
    import os, signal, subprocess, sys

    @dsfn.function
    def end(how: str) -> int:
        if how == "exit":
            os._exit(7)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "crash":
            import ctypes
            ctypes.string_at(0)
        return subprocess.Popen(["sleep", "600"]).pid

    @dsfn.function
    def numbers() -> list[float]:
        import random, numpy, torch
        return [random.random(), numpy.random.random(), torch.rand(1).item()]
"""


@pytest.mark.parametrize(
    ("how", "status"), [("exit", 7), ("kill", -signal.SIGKILL), ("crash", -signal.SIGSEGV)]
)
def test_how_a_worker_ended_is_reported(
    server: ForkServer, spawn: Spawn, tmp_path: Path, how: str, status: int
) -> None:
    worker, other = spawn(), spawn()
    worker.load(write_app(tmp_path, ENDINGS), "end")
    with pytest.raises(EOFError):
        worker.call(how=how)
    assert server.exit_status(worker) == status
    if how == "crash":
        assert "Segmentation fault" in worker.printed("in end")
    other.load(tmp_path, "end")
    assert other.call(how="go on") > 0


def test_what_a_worker_has_started_ends_with_it(
    server: ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, ENDINGS), "end")
    grandchild = worker.call(how="start")
    assert os.getpgid(grandchild) == worker.pid
    with pytest.raises(EOFError):
        worker.call(how="exit")
    server.exit_status(worker)
    wait_until_gone(grandchild)


def test_two_workers_draw_different_random_numbers(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(tmp_path, ENDINGS)
    workers = [spawn(), spawn()]
    for worker in workers:
        worker.load(bundle, "numbers")
    first, second = (worker.call() for worker in workers)
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_worker_inherits_nothing_from_its_siblings(
    server: ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    bundle = write_app(
        tmp_path,
        """
        import os

        @dsfn.function
        def descriptors() -> dict[str, str]:
            found = {}
            for name in os.listdir("/proc/self/fd"):
                try:
                    found[name] = os.readlink("/proc/self/fd/" + name)
                except FileNotFoundError:
                    pass
            return found
        """,
    )
    others = [spawn() for _ in range(3)]
    worker = spawn()
    for each in (*others, worker):
        each.load(bundle, "descriptors")
    found = worker.call()
    assert found["0"] == "/dev/null" and found["1"] == found["2"]
    siblings = (server.process.pid, *(other.pid for other in others))
    theirs = {link for pid in siblings for link in _links(pid)}
    own = {link for link in found.values() if link.startswith(("socket:", "pipe:"))}
    assert not own & theirs
    assert not any("pidfd" in link for link in found.values())


def _links(pid: int) -> Iterator[str]:
    """Sockets and pipes that a process has open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        link = str(descriptor.readlink())
        if int(descriptor.name) > 2 and link.startswith(("socket:", "pipe:")):
            yield link


def test_the_end_of_the_node_ends_everything(tmp_path: Path) -> None:
    bundle = write_app(tmp_path, ENDINGS)
    with fork_server() as server:
        workers = [server.spawn(), server.spawn()]
        workers[0].load(bundle, "end")
        grandchild = workers[0].call(how="start")
    assert server.process.returncode == 0
    for pid in (*(worker.pid for worker in workers), grandchild):
        wait_until_gone(pid)
    for worker in workers:
        worker.close()


def test_a_killed_fork_server_takes_its_workers_along(tmp_path: Path) -> None:
    with fork_server() as server:
        workers = [server.spawn(), server.spawn()]
        workers[0].load(write_app(tmp_path, ENDINGS), "end")
        server.process.kill()
        for worker in workers:
            wait_until_gone(worker.pid)
            worker.close()


THREAD = "threading.Thread(target=time.sleep, args=[60]).start()"
MODULES = {
    "harmless": "VALUE = 1",
    "harmless_too": "import harmless",
    "raising": "raise OSError('no such device')",
    "leaving": "import sys; sys.exit()",
    "ending": "import os; os._exit(0)",
    "hanging": "while True: pass",
    "threading_on": f"import threading, time\n{THREAD}",
}


def test_only_modules_that_prove_harmless_are_preloaded(tmp_path: Path) -> None:
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    bundle = write_app(
        tmp_path / "bundle",
        """
        import sys

        @dsfn.function
        def loaded(names: list[str]) -> list[str]:
            return [name for name in names if name in sys.modules]
        """,
    )
    with fork_server(tmp_path) as server:
        spare = server.spawn()
        preloaded = server.preload([*MODULES, "missing"], timeout_s=2.0)
        assert preloaded["modules"] == ["harmless", "harmless_too"]
        rejected = preloaded["rejected"]
        assert rejected["raising"] == "importing it raises OSError: no such device"
        assert rejected["leaving"].startswith("importing it raises SystemExit")
        assert rejected["ending"] == "importing it ends the process"
        assert rejected["hanging"] == "importing it takes too long"
        assert rejected["threading_on"] == "importing it starts a thread"
        assert rejected["missing"].startswith("importing it raises ModuleNotFoundError")
        worker = server.spawn()
        worker.load(bundle, "loaded")
        assert worker.call(names=list(MODULES)) == ["harmless", "harmless_too"]
        hiding = server.spawn()
        own = "@dsfn.function\ndef own() -> int: return 1"
        write_app(tmp_path / "bundle", own, "harmless.py")
        assert hiding.load(bundle, "own", entry="harmless.py").kind is Kind.READY
        assert hiding.call() == 1
        for one in (spare, worker, hiding):
            one.close()


def test_workers_are_born_while_a_module_is_on_trial(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(MODULES["hanging"])
    with fork_server(tmp_path) as server:
        server.begin_preload(["hanging"], timeout_s=3.0)
        server.spawn().close()
        assert "hanging" in server.hear("preloaded")["rejected"]


def test_the_nodes_working_directory_is_not_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stray.py").write_text("")
    bundle = write_app(
        tmp_path / "bundle",
        """
        import sys

        @dsfn.function
        def find() -> bool:
            import importlib.util
            return importlib.util.find_spec("stray") is not None
        """,
    )
    monkeypatch.chdir(tmp_path)
    with fork_server() as server:
        worker = server.spawn()
        worker.load(bundle, "find")
        assert worker.call() is False
        worker.close()


def test_the_fork_server_stays_with_one_thread(server: ForkServer, spawn: Spawn) -> None:
    spawn()
    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1
