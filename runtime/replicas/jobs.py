"""One-shot workers: discovery, capture and verification of what is being deployed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dsfn.functions.errors import DsfnError, HandlerCrashed, HandlerTimedOut
from dsfn.functions.values import dataclass
from dsfn.runtime.deploy.confinement import Confinement
from dsfn.runtime.deploy.environments import Environment
from dsfn.runtime.deploy.jobs import JobResult
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.replicas.begun import begin
from dsfn.runtime.replicas.connecting import connect
from dsfn.runtime.replicas.forkserver import ForkServer, WorkerProcess, signal_name
from dsfn.runtime.replicas.launcher import Launcher
from dsfn.runtime.worker.frames import Kind
from dsfn.runtime.worker.messages import Capture, Discover, Gpu, Message, Prove, Verify

MAX_OUTPUT_BYTES = 64 << 10
# How long a job that hangs has to say where.
HANG_GRACE_S = 1.0
_EXIT_TIMEOUT_S = 5.0


@dataclass(eq=False)
class Jobs:
    """Runs jobs, each in a worker of its own that ends with it."""

    launcher: Launcher
    gpus: Gpus
    leases: Leases
    confinement: Confinement | None = None

    async def run(
        self,
        environment: Environment,
        job: Message,
        timeout_s: float,
        gpus: Sequence[Gpu] = (),
    ) -> JobResult:
        """Runs a job to its end, with memory of these GPUs.

        Raises what the job raised, `HandlerTimedOut` when it hung (with the author's
        `traceback`, where the job could still tell), `HandlerCrashed` when its process
        ended; both with `output`, the last that it printed.
        """
        with self.launcher.hold(environment.digest), self._leased(job, gpus):
            async with self._worker(environment, job) as worker:
                try:
                    if gpus and worker.owner is not None:
                        await self.gpus.attach(worker.owner, gpus)
                except BaseException:
                    worker.kill()
                    worker.close()
                    raise
                return await self._run(worker, job, timeout_s)

    @asynccontextmanager
    async def _worker(self, environment: Environment, job: Message) -> AsyncIterator[WorkerProcess]:
        """A worker of the environment, confined to what the job names if any is to be."""
        if self.confinement is None:
            yield await self.launcher.nursery(environment.digest, environment.python).adopt()
            return
        read, write = _touched(environment, job)
        async with self.confinement.room(read=read, write=write) as room:
            if not environment.digest:
                yield await self.launcher.nursery("", environment.python).spawn(room)
                return
            # An interpreter of an environment runs what was installed there before it serves.
            begun = begin(environment.python, (), in_a_hurry=True, room=room)
            server = ForkServer(environment.python, bool(self.gpus), (), begun)
            try:
                yield await server.spawn()
            finally:
                await server.close()

    @contextmanager
    def _leased(self, job: Message, gpus: Sequence[Gpu]) -> Iterator[None]:
        """A job of one function holds its devices; it counts as part of the function's start."""
        function = getattr(job, "function", None)
        if function is None:
            yield
            return
        lease = self.leases.begin(function, "", gpus)
        try:
            yield
            lease.ready(0)
        finally:
            lease.end()

    async def _run(self, worker: WorkerProcess, job: Message, timeout_s: float) -> JobResult:
        channel, output = await connect(worker, OutputTail)
        worker.hand_over()
        channel.lost = lambda: channel.fail(HandlerCrashed("The job's process ended."))
        loop = asyncio.get_running_loop()
        hung_at_s = loop.time() + timeout_s
        interrupt = loop.call_at(hung_at_s, worker.signal, signal.SIGUSR1)
        try:
            patience_s = timeout_s + HANG_GRACE_S
            document = await channel.request(Kind.JOB, job.to_document(), patience_s)
        except (DsfnError, TimeoutError, ConnectionError) as error:
            if loop.time() >= hung_at_s:
                raise _hung(timeout_s, error, output) from None
            if isinstance(error, ConnectionError):
                raise await _crash(worker, output) from None
            raise
        finally:
            interrupt.cancel()
            channel.close()
            worker.kill()
            output.close()
        return JobResult(document, output.text())

    async def preload(self, environment: Environment, modules: list[str]) -> None:
        """Has later workers of this environment born with these modules imported: nowhere where
        they are confined, as the fork server is not."""
        if self.confinement is not None:
            return
        with self.launcher.hold(environment.digest):
            await self.launcher.nursery(environment.digest, environment.python).preload(modules)


def _touched(environment: Environment, job: Message) -> tuple[list[Path], list[Path]]:
    """What a job has to read, and to write."""
    installed = [environment.python.parents[1]] if environment.digest else []
    match job:
        case Capture():
            return [Path(job.bundle), *installed], [Path(job.staging)]
        case Verify() | Prove():
            return [Path(job.bundle), Path(job.snapshot), *installed], []
        case Discover():
            return [Path(job.bundle), *installed], []
    raise AssertionError(job)


class OutputTail:
    """The last bytes that a worker printed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._tail = bytearray()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def text(self) -> str:
        """What there is so far."""
        self._read()
        return self._tail.decode("utf-8", "replace")

    def close(self) -> None:
        """Stops reading and closes the descriptor."""
        if self._descriptor >= 0:
            self._read()
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, MAX_OUTPUT_BYTES) if self._descriptor >= 0 else b""
        except BlockingIOError:
            return
        if not data and self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._tail += data
        del self._tail[:-MAX_OUTPUT_BYTES]


def _hung(timeout_s: float, error: Exception, output: OutputTail) -> HandlerTimedOut:
    """`error` is what came of the interrupt."""
    where = error.fields.get("traceback") if isinstance(error, DsfnError) else None
    return HandlerTimedOut(
        f"It took longer than {timeout_s:g} s.",
        timeout_s=timeout_s,
        traceback=where,
        output=output.text(),
    )


async def _crash(worker: WorkerProcess, output: OutputTail) -> HandlerCrashed:
    await asyncio.wait({worker.exited}, timeout=_EXIT_TIMEOUT_S)
    if not worker.exited.done():
        return HandlerCrashed("Its process closed the connection.", output=output.text())
    code = worker.exited.result()
    if code >= 0:
        return HandlerCrashed(
            f"It ended the process with exit code {code}.", exit_code=code, output=output.text()
        )
    name = signal_name(code)
    return HandlerCrashed(f"Its process was killed by {name}.", signal=name, output=output.text())
