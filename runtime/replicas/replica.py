"""One replica: a worker that runs one revision, and what the node knows of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import field
from functools import partial

from dsfn.functions.errors import (
    CallCancelled,
    DsfnError,
    HandlerCrashed,
    HandlerTimedOut,
    MemoryFull,
    NotFound,
    OutOfMemory,
    OutputTooLarge,
    OwnerLost,
    QueueTimeout,
    ReplicaLost,
    ReplicaStartFailed,
    SnapshotError,
    Unavailable,
)
from dsfn.functions.values import dataclass
from dsfn.runtime.brought_back import BroughtBack, Stages
from dsfn.runtime.config import Limits
from dsfn.runtime.gpus.grip import Grip
from dsfn.runtime.heat import Heat
from dsfn.runtime.leases import DeviceLease, Slot
from dsfn.runtime.leases.leases import Leases
from dsfn.runtime.logs import LogStore, Pump
from dsfn.runtime.model import Call, ReplicaState, Revision
from dsfn.runtime.replicas.channel import Channel, PendingCall, Reply
from dsfn.runtime.replicas.connecting import connect
from dsfn.runtime.replicas.forkserver import WorkerProcess, signal_name
from dsfn.runtime.worker.frames import Kind
from dsfn.runtime.worker.messages import Checked, Load, Ready
from dsfn.snapshots.owner.errors import owner_lost

PARK_TIMEOUT_S = 10.0
EXIT_TIMEOUT_S = 5.0
# Others may take the room that was made, or the weights leave the arena, before they are mapped.
UNPARK_ATTEMPTS = 3
_CHANGED = "the file of its snapshot has changed"
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class NotBegun(Exception):
    """The process was gone before it read the call: nothing of it ran. `error`: what its caller
    hears when there is no other."""

    def __init__(self, error: DsfnError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(eq=False)
class Replica:
    """A worker that became a replica, with what it has of the GPUs in its `grip`, and the `lease`
    that accounts for the time for which it has it. `released` runs whenever it has finished a
    call, `parked` when it has given its memory up, `ended` once, when its process has gone.
    `is_sound`: whether the file that it has mapped is still the one that was checked."""

    revision: Revision
    worker: WorkerProcess
    grip: Grip
    leases: Leases
    limits: Limits
    released: Callable[[Replica], None]
    parked: Callable[[Replica], None]
    ended: Callable[[Replica], None]
    state: ReplicaState = ReplicaState.STARTING
    in_flight: int = 0
    used_at_s: float = 0.0
    ready: Ready | None = None
    brought_back: BroughtBack = field(default_factory=BroughtBack)
    wants_room: bool = False
    is_sound: Callable[[], bool] = lambda: True
    lease: DeviceLease = field(init=False)
    _keeper: str = ""
    _frozen: bool = False
    _heat: Heat = field(default_factory=Heat)
    _channel: Channel = field(default_factory=Channel)
    _pump: Pump = field(init=False)
    _doom: DsfnError | None = None
    _turn: asyncio.Future[None] | None = None
    _funeral: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._begin_lease()

    async def load(self, logs: LogStore, load: Load, stages: Stages) -> Ready:
        """Makes the worker a replica; its grip has room for it, which took the `stages` so far.

        Raises `SnapshotError`, `ReplicaStartFailed`, and `MemoryFull`, `NotFound` or `OwnerLost`
        where what was there for it has gone.
        """
        await self._connect(logs)
        try:
            await self.grip.attach(self.worker.owner, self)
            self.worker.hand_over()
            document = await self._channel.request(
                Kind.LOAD, load.to_document(), self.limits.start_timeout_s
            )
        except BaseException as error:
            told = self._told(error)
            self.kill()
            if told is error:
                raise
            raise told from error
        self.ready = Ready.from_document(document)
        self.brought_back = stages.answered(self.ready.restore_us, self.ready.parts)
        self.lease.ready(self.ready.restore_us if load.snapshot else 0)
        self.grip.has_context()
        self._become_free()
        return self.ready

    async def _connect(self, logs: LogStore) -> None:
        """From here on the end of the process is noticed, and ends what it held. Raises
        `ReplicaStartFailed`; all of it has ended then."""
        pump = partial(
            logs.pump,
            function=self.revision.function,
            revision=self.revision.id,
            replica=self.worker.pid,
            limit_bytes=self.limits.max_output_bytes,
            on_limit=self._printed_too_much,
        )
        try:
            self._channel, self._pump = await connect(self.worker, pump)
        except BaseException as error:
            self.grip.forget()
            self.lease.end()
            if isinstance(error, OSError):
                raise self._start_failed(error) from error
            raise
        self._channel.lost = self._lost

    def takes_calls(self) -> bool:
        """Whether it is loaded and has a free slot."""
        return (
            self.state in (ReplicaState.READY, ReplicaState.BUSY)
            and self.in_flight < self.revision.options.concurrency
            and self._turn is None
            and self._doom is None
            and self._channel.is_open
            # A process that was killed keeps its connection until its memory is freed.
            and not self.worker.exited.done()
        )

    def reserve(self) -> Slot:
        """Takes one slot, which `call` or `unreserve` gives back."""
        self.in_flight += 1
        self.state = ReplicaState.BUSY
        self._heat.use(asyncio.get_running_loop().time())
        return self.lease.enter()

    def unreserve(self, slot: Slot) -> None:
        """Gives a slot back that was reserved and not used."""
        slot.discard()
        self._release(slot)

    def keep_warm(self, tenant: str) -> None:
        """Has this tenant, "" for nobody, pay for the replica being there when no call runs."""
        self._keeper = tenant
        self.lease.keep(tenant)

    async def call(self, call: Call, slot: Slot, threads: int) -> Reply:
        """Runs a call in a slot that was reserved.

        Raises what the function raised, `HandlerTimedOut`, `HandlerCrashed` and its kin when the
        process ended under it, or `NotBegun` when that was before it read the call. The slot is
        free again when the worker has finished, which may be after the caller has gone.
        """
        loop = asyncio.get_running_loop()
        if not self._channel.is_open:
            self._release(slot)
            raise NotBegun(_replica_lost("it ended before the call began"))
        if not self.is_sound():
            self.drop_unsound()
            self._release(slot)
            raise NotBegun(_replica_lost(_CHANGED))
        self._pump.mark(call.id if self.in_flight == 1 else None)
        pending = self._channel.begin_call(
            threads, call.content_type, call.accept, call.body, slot, self._finished
        )
        pending.timer = loop.call_later(self.revision.options.timeout_s, self._expire, pending)
        try:
            reply = await pending.reply
        except asyncio.CancelledError:
            self._abandon(pending)
            raise
        except DsfnError as error:
            if pending.unread:
                raise NotBegun(error) from error
            raise
        if not self.is_sound():
            # It may have been computed from what nobody has captured.
            raise _replica_lost(_CHANGED)
        if reply.stream is not None:
            reply.stream = self._watched(pending, reply.stream)
        return reply

    async def park(self) -> None:
        """Gives the device memory back; the process stays. Only for a replica at rest."""
        self.state = ReplicaState.STARTING
        try:
            await self._channel.request(Kind.PARK, {}, PARK_TIMEOUT_S)
        except (DsfnError, OSError):
            # A replica that cannot be parked is worth less than the memory it holds.
            self.kill()
            return
        self.state = ReplicaState.PARKED
        self._let_go()
        self.parked(self)

    async def freeze(self) -> None:
        """Gives the context on the GPU back as well. Only for a parked replica."""
        self.state = ReplicaState.STARTING
        try:
            await self.grip.freeze(self.worker.pid)
        except DsfnError:
            self.kill()
            return
        self.state, self._frozen = ReplicaState.FROZEN, True
        self.parked(self)

    async def leave(self) -> None:
        """See `Holder`. Only for a replica in which no call runs."""
        self.state = ReplicaState.STARTING
        self.kill()
        await asyncio.wait({self.worker.exited}, timeout=EXIT_TIMEOUT_S)

    async def unpark(self) -> None:
        """Takes the device memory again; `brought_back` says what that took.

        Raises `MemoryFull`, parked as it was, and `ReplicaStartFailed`, the replica killed.
        """
        if not self.is_sound():
            error = _replica_lost(_CHANGED)
            self.kill(error)  # the next one begins with reading all of it
            raise self._start_failed(error)
        attempts = UNPARK_ATTEMPTS
        while True:
            self.state, attempts = ReplicaState.STARTING, attempts - 1
            try:
                await self._unpark()
                return
            except (MemoryFull, NotFound) as error:
                if isinstance(error, NotFound) and not attempts:
                    self.kill()  # it is better started anew
                    raise self._start_failed(error) from error
                self.state = ReplicaState.FROZEN if self._frozen else ReplicaState.PARKED
                self._let_go()
                if not attempts:
                    raise
            except (DsfnError, OSError) as error:
                self.kill()
                raise self._start_failed(error) from error

    async def _unpark(self) -> None:
        stages = Stages()
        async with self.grip.taken(self.limits.queue_timeout_s, stages):
            self._begin_lease()
            self.wants_room = False
            if self._frozen:
                await self.grip.thaw(self.worker.pid)
                self._frozen = False
                stages.ended("restore.thaw")
            document = await self._channel.request(Kind.UNPARK, {}, self.limits.start_timeout_s)
        self.brought_back = stages.answered(document["restore_us"], document["parts"])
        self.lease.ready()
        self.grip.has_context()
        self._become_free()

    async def check(self) -> Checked:
        """Has the worker compare the weights in its memory with what was captured. Calls that run
        end first, those that come wait. Only for a replica that is ready or busy.

        A replica whose weights are not intact, or which cannot tell, is ended. Raises what it
        said, `QueueTimeout` when its calls ran for too long, `TimeoutError` when it did itself,
        `ConnectionError` when it ended.
        """
        await self._take_turn()
        try:
            document = await self._channel.request(Kind.CHECK, {}, self.limits.start_timeout_s)
        except MemoryFull:
            self._resume()
            raise
        except (DsfnError, OSError):
            await self.leave()
            raise
        checked = Checked.from_document(document)
        if checked.is_intact:
            self._resume()
        else:
            await self.leave()
        return checked

    async def _take_turn(self) -> None:
        """Waits until no call runs, with the replica to itself then."""
        if self.state is ReplicaState.READY:
            self.state = ReplicaState.STARTING
            return
        turn = self._turn = asyncio.get_running_loop().create_future()
        wait_s = self.limits.queue_timeout_s
        await asyncio.wait({turn}, timeout=wait_s)
        self._turn = None
        if not turn.done():
            message = f"Its calls had not ended after {wait_s:g} s."
            raise QueueTimeout(message, waited_s=wait_s, retry_after_s=1)

    def _give_turn(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def _resume(self) -> None:
        """Takes calls again. It was not used meanwhile: `used_at_s` stays."""
        self.state = ReplicaState.READY
        self.grip.at_rest()

    # As a holder of GPU memory.

    @property
    def heat(self) -> float:
        """See `Holder`."""
        return self._heat.read(asyncio.get_running_loop().time())

    @property
    def function(self) -> str:
        """See `Holder`."""
        return self.revision.function

    def always_stays(self) -> bool:
        """See `Holder`. Replicas that must always be there keep their memory."""
        return self.revision.options.min_replicas > 0

    def can_give_up(self) -> bool:
        """See `Holder`."""
        resting = self.state is ReplicaState.READY and self._doom is None
        return resting and not self.always_stays()

    def can_freeze(self) -> bool:
        """See `Holder`."""
        return self.state is ReplicaState.PARKED and bool(self.grip.devices)

    async def give_up(self) -> None:
        """See `Holder`."""
        if self.grip.can_park:
            await self.park()
        else:
            await self.stop()

    def owner_lost(self) -> None:
        """See `Holder`. What runs still has its memory; nothing new may begin."""
        self._wind_up(_replica_lost("the memory owner ended"))

    def drop_unsound(self) -> None:
        """Ends it, after the calls that run, if the file that it has mapped has changed."""
        if self._doom is None and not self.is_sound():
            self._wind_up(_replica_lost(_CHANGED))

    def _wind_up(self, error: DsfnError) -> None:
        if self.in_flight:
            self._doom = self._doom or error
            self._channel.send_stop()
        else:
            self.kill(error)

    def cut_off(self, error: DsfnError) -> None:
        """Ends the calls that run with this error, whether the function likes it or not."""
        for pending in list(self._channel.pending.values()):
            pending.give_up(error)
            self._abandon(pending)

    def kill(self, reason: DsfnError | None = None) -> None:
        """Ends the process now; `reason` becomes the error of the calls it was running."""
        self._doom = self._doom or reason or CallCancelled("The replica was stopped.")
        self.worker.kill()

    async def stop(self) -> None:
        """Lets running calls finish, then ends the process."""
        self._doom = self._doom or CallCancelled("The replica was stopped.")
        if self._frozen:
            self.kill()  # it cannot hear
        self._channel.send_stop()
        _, running = await asyncio.wait(
            {self.worker.exited}, timeout=self.limits.shutdown_timeout_s
        )
        if running:
            self.kill()
        if self._funeral is not None:
            await self._funeral

    def _begin_lease(self) -> None:
        revision = self.revision
        self.lease = self.leases.begin(revision.function, revision.id, self.grip.devices)
        self.lease.keep(self._keeper)

    def _let_go(self) -> None:
        self.grip.let_go()
        self.lease.end()

    def _become_free(self) -> None:
        self.state = ReplicaState.READY
        self.used_at_s = asyncio.get_running_loop().time()
        self.grip.at_rest()

    def _finished(self, pending: PendingCall) -> None:
        if pending.timer is not None:
            pending.timer.cancel()
        if isinstance(pending.error, OutOfMemory):
            # Its worker ends after this answer: nothing more may be sent there.
            self._doom = self._doom or _replica_lost("another of its calls ran out of memory")
        elif isinstance(pending.error, ReplicaLost):
            self._doom = self._doom or pending.error  # it ends as well
        elif isinstance(pending.error, MemoryFull):
            self.grip.found_too_little()
            self.wants_room = True
        else:
            self.grip.has_all()
        self._release(pending.slot)

    def _release(self, slot: Slot) -> None:
        slot.release()
        self.in_flight -= 1
        if self.in_flight == 0 and self.state is ReplicaState.BUSY:
            self._become_free()
            if self._turn is not None:
                self.state = ReplicaState.STARTING
                self._give_turn()
        self.released(self)

    def _expire(self, pending: PendingCall) -> None:
        timeout_s = self.revision.options.timeout_s
        pending.give_up(
            HandlerTimedOut(
                f"The function did not answer within its timeout of {timeout_s:g} s.",
                timeout_s=timeout_s,
            )
        )
        self._abandon(pending)

    def _abandon(self, pending: PendingCall) -> None:
        """Nobody waits for this call: stop it gently, then by ending the process."""
        if pending.number not in self._channel.pending:
            return
        self._channel.cancel_call(pending)
        # A handler that blocks its loop hears a signal, not a frame.
        self.worker.signal(signal.SIGUSR1)
        loop = asyncio.get_running_loop()
        loop.call_later(self.limits.cancel_grace_s, self._kill_if_running, pending)

    def _kill_if_running(self, pending: PendingCall) -> None:
        if pending.number in self._channel.pending:
            self.kill(_replica_lost("another of its calls would not stop"))

    async def _watched(
        self, pending: PendingCall, stream: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    yield chunk
        finally:
            self._abandon(pending)

    def _printed_too_much(self) -> None:
        limit = self.limits.max_output_bytes
        self.kill(
            OutputTooLarge(
                f"The function printed more than {limit} bytes in one call.", limit_bytes=limit
            )
        )

    def _lost(self) -> None:
        self.state = ReplicaState.ABSENT
        self._give_turn()
        self._funeral = asyncio.create_task(self._bury())

    async def _bury(self) -> None:
        await asyncio.wait({self.worker.exited}, timeout=EXIT_TIMEOUT_S)
        self.worker.kill()
        self._channel.fail(self._blame(self._doom or self._crash()))
        self._pump.close()
        self.grip.forget()
        self.lease.end()
        self.ended(self)

    def _blame(self, error: DsfnError) -> DsfnError:
        """What the calls that ran hear: when there were several, it is nobody's own fault."""
        if len(self._channel.pending) < 2 or isinstance(error, ReplicaLost):
            return error
        return _replica_lost(f"one of the calls that it ran ended it. {error.message}")

    def _crash(self) -> DsfnError:
        if not self.worker.exited.done():
            return HandlerCrashed("The function's process closed its connection to the node.")
        code = self.worker.exited.result()
        if code >= 0:
            return HandlerCrashed(
                f"The function's process ended with exit code {code} while it ran the call.",
                exit_code=code,
            )
        name = signal_name(code)
        hint = "; the kernel does this when memory runs out" if code == -signal.SIGKILL else ""
        return HandlerCrashed(
            f"The function's process was killed by {name} while it ran the call{hint}.",
            signal=name,
        )

    def _told(self, error: BaseException) -> BaseException:
        """What whoever waits for the replica hears of an `error` of its start."""
        if isinstance(error, SnapshotError | MemoryFull | NotFound | OwnerLost):
            return error
        if not isinstance(error, DsfnError | OSError):
            return error
        if isinstance(self._doom, ReplicaLost):
            return owner_lost("it ended while a replica started")
        if self._channel.restoring and self._is_to_blame(error):
            return self._restore_failed(error)
        return self._start_failed(error)

    def _is_to_blame(self, error: Exception) -> bool:
        """Whether code that it runs failed or hung, or ended it: whoever ends a process from
        outside sends one of a few signals, which code that crashes does not."""
        if not isinstance(error, ConnectionError):
            return not isinstance(error, Unavailable)
        exited = self.worker.exited
        return self._doom is None and exited.done() and -exited.result() not in _FROM_OUTSIDE

    def _restore_failed(self, error: Exception) -> SnapshotError:
        reason = str(self._start_failed(error).fields["reason"])
        if isinstance(error, ConnectionError):
            code = self.worker.exited.result()
            how = f"with exit code {code}" if code >= 0 else f"by {signal_name(code)}"
            reason = f"its process was ended {how} while it restored"
        return SnapshotError(f"The snapshot did not restore: {reason}.", reason=reason)

    def _start_failed(self, error: Exception) -> ReplicaStartFailed:
        traceback = None
        if isinstance(error, DsfnError):
            reason = error.message[:1].lower() + error.message[1:].removesuffix(".")
            traceback = error.fields.get("traceback")
        elif isinstance(error, TimeoutError):
            reason = f"it was not ready within {self.limits.start_timeout_s:g} s"
        elif isinstance(error, ConnectionError):
            reason = "its process ended while it started"
        else:
            reason = f"the operating system refused: {error}"
        return ReplicaStartFailed(
            f"A replica of {self.revision.id} could not be started: {reason}.",
            reason=reason,
            traceback=traceback,
            retry_after_s=1,
        )


def _replica_lost(reason: str) -> ReplicaLost:
    return ReplicaLost(
        f"The replica that ran this call has gone: {reason}.", reason=reason, retry_after_s=1
    )
