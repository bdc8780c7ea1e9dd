"""The fork server: `python -m dsfn.runtime.worker FD LIBRARIES [gpus] [first]`.

One thread, torch and everything else that a worker needs imported, no GPU ever touched:
a fork of it is a worker within milliseconds. FD is a SOCK_SEQPACKET socket to the node, LIBRARIES
are the large ones that it imports, with commas between them. With `gpus` it imports what brings
weights to a GPU as well, which touches none. With `first` somebody waits for its
first worker, and few will follow: nothing is done that only makes the next ones cheaper;
the messages are `Spawn` and `Preload`, answered by `Spawned`, `Exited` and `Preloaded`.
It ends, and all its workers with it, when the node does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from dsfn.functions.values import compile_all
from dsfn.runtime.bytecode import end_use
from dsfn.runtime.worker.linux import keep_freed_memory, kill_group, settle_heap
from dsfn.runtime.worker.messages import Exited, Message, Preload, Spawn, Spawned, SpawnFailed
from dsfn.runtime.worker.preload import Preloading, Trial
from dsfn.runtime.worker.rehearsal import rehearse
from dsfn.snapshots.parent import die_with_parent

_MAX_MESSAGE_BYTES = 1 << 18


class ForkServer:
    """Serves one node until its socket closes."""

    def __init__(self, node: socket.socket) -> None:
        self._node = node
        self._pid = os.getpid()
        # poll() has no descriptor of its own that a child would inherit.
        self._selector = selectors.PollSelector()
        self._workers: dict[int, int] = {}  # pidfd -> pid
        self._preloads: deque[Preload] = deque()
        self._preloading: Preloading | None = None
        self._trial: Trial | None = None
        self._selector.register(node, selectors.EVENT_READ, self._receive)

    def serve(self) -> NoReturn:
        """Works until the node goes away, then ends every worker and this process."""
        signal.signal(signal.SIGTERM, lambda *_: self._shut_down())
        while True:
            for key, _ in self._selector.select(self._patience_s()):
                handle: Callable[[int], None] = key.data
                handle(key.fd)
            if self._trial is not None and time.monotonic() >= self._trial.deadline_s:
                self._end_trial(self._trial.verdict)

    def _receive(self, _: int) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._node, _MAX_MESSAGE_BYTES, 4, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            data = b""
        if not data:
            self._shut_down()
        document = json.loads(data)
        if document["op"] == "spawn":
            self._spawn(Spawn.from_document(document), descriptors)
        else:
            self._preloads.append(Preload.from_document(document))
            self._continue_preloading()

    def _spawn(self, request: Spawn, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._send(SpawnFailed(request.id, f"fork: {error.strerror}"))
        else:
            if pid == 0:
                self._become_worker(request.home, descriptors)
            self._send(Spawned(request.id, pid))
            pidfd = os.pidfd_open(pid)
            self._workers[pidfd] = pid
            self._selector.register(pidfd, selectors.EVENT_READ, self._reap)
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_worker(self, home: str | None, descriptors: list[int]) -> NoReturn:
        try:
            for descriptor in self._descriptors():
                os.close(descriptor)
            if home is not None:
                confined = importlib.import_module("dsfn.runtime.worker.confined")
                confined.confine(descriptors.pop(), home)
            main = importlib.import_module("dsfn.runtime.worker.main")
            main.become(self._pid, *descriptors)
        except BaseException:  # noqa: BLE001  nothing may unwind into the fork server's loop
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self, pidfd: int) -> None:
        pid = self._workers.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        kill_group(pid)  # what it has started; its own number is free only once it was waited for
        _, status = os.waitpid(pid, 0)
        self._send(Exited(pid, os.waitstatus_to_exitcode(status)))

    def _continue_preloading(self) -> None:
        while self._trial is None and (self._preloading is not None or self._preloads):
            if self._preloading is None:
                self._preloading = Preloading(self._preloads.popleft())
            group = self._preloading.next_group()
            if group is None:
                settle_heap()
                self._send(self._preloading.answer())
                self._preloading = None
                continue
            timeout_s = self._preloading.request.timeout_s
            self._trial = Trial.start(group, timeout_s, self._descriptors())
            self._selector.register(self._trial.verdict, selectors.EVENT_READ, self._end_trial)

    def _end_trial(self, verdict: int) -> None:
        assert self._trial is not None and self._preloading is not None
        self._selector.unregister(verdict)
        trial, self._trial = self._trial, None
        self._preloading.judge(trial.modules, trial.end())
        self._continue_preloading()

    def _descriptors(self) -> list[int]:
        """What is this process's own and must not live on in a child."""
        trial = [self._trial.verdict] if self._trial is not None else []
        return [self._node.fileno(), *self._workers, *trial]

    def _patience_s(self) -> float | None:
        if self._trial is None:
            return None
        return max(0.0, self._trial.deadline_s - time.monotonic())

    def _send(self, message: Message) -> None:
        try:
            self._node.send(json.dumps(message.to_document()).encode())
        except ConnectionError:
            self._shut_down()

    def _shut_down(self) -> NoReturn:
        for pid in self._workers.values():
            kill_group(pid)
        if self._trial is not None:
            kill_group(self._trial.pid)
        os._exit(0)


def serve() -> NoReturn:
    """Serves the node at FD until its socket closes. The garbage collector is off when it begins;
    workers enable it for themselves."""
    node = node_at(int(sys.argv[1]))
    libraries = [name for name in sys.argv[2].split(",") if name]
    prepare(libraries, gpus="gpus" in sys.argv[3:], in_a_hurry="first" in sys.argv[3:])
    ForkServer(node).serve()


def node_at(descriptor: int) -> socket.socket:
    """The node's socket. Ends this process where the node has ended."""
    # Until it serves, a signal just ends it; then it has workers to take with it.
    die_with_parent(signal.SIGTERM)
    node = socket.socket(fileno=descriptor)
    if _has_hung_up(node):
        sys.exit()  # the node died before the kernel knew that it was to tell
    return node


def prepare(libraries: Sequence[str], *, gpus: bool, in_a_hurry: bool) -> None:
    """Has this process be what workers are forked from."""
    if not sys.flags.safe_path:
        sys.path.pop(0)  # the node's working directory, which is none of a function's business
    tell_libraries()
    keep_freed_memory()
    rehearse(libraries, gpus=gpus)
    end_use()  # what comes now may be an author's
    if in_a_hurry:
        gc.freeze()  # the collectors of workers are not to touch, and copy, what they share
    else:
        compile_all()  # or each worker does it for the values that it makes
        settle_heap()


def tell_libraries() -> None:
    """What native libraries are told by the environment of this process and of its workers."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it would start threads when it is loaded
    # How long OpenMP's threads spin at a barrier. With its own 300,000 a model that shares its
    # CPUs with one busy process takes 400 ms instead of 20; alone, both take the same 4 ms.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def _has_hung_up(node: socket.socket) -> bool:
    looking = select.poll()
    looking.register(node, 0)
    return bool(looking.poll(0))
