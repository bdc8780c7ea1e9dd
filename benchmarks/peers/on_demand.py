"""What people run in dsfn's place: a process for each model, behind one address.

    python -m benchmarks.peers.on_demand CONFIG.json PORT

CONFIG: {"files": {function: path of its weights}, "capacity": processes that fit the GPU at once,
"fixed": those that are started ahead and stay, or null}. Without `fixed` a process is started when
its first call comes, and the one that was used longest ago is killed for it when there are as many
as fit; with it, calls of all others are refused.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class ModelFailed(Exception):
    """A model's process has ended."""


@dataclass(eq=False)
class Model:
    """A process that has a model loaded; `users` are calls that run or wait in it."""

    process: asyncio.subprocess.Process
    users: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def start(cls, path: str) -> Model:
        """Raises `ModelFailed` when it does not come up."""
        model = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.peers.chain_process", path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        )
        await model._line()
        return model

    async def ask(self, number: int) -> Any:
        """Raises `ModelFailed`."""
        async with self.turn:
            assert self.process.stdin is not None
            self.process.stdin.write(b"%d\n" % number)
            return json.loads(await self._line())

    async def kill(self) -> None:
        """Ends the process; its GPU memory is free then."""
        self.process.kill()
        await self.process.wait()

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise ModelFailed(f"exit code {await self.process.wait()}")
        return line


@dataclass(eq=False)
class Models:
    """The processes, the one that was used longest ago first; `room` is for how many more."""

    files: Mapping[str, str]
    room: int
    fixed: Sequence[str] | None
    running: dict[str, Model] = field(default_factory=dict)
    _starting: dict[str, asyncio.Task[Model]] = field(default_factory=dict)
    _waiting: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start_fixed(self) -> None:
        """Starts those that stay."""
        for name in self.fixed or ():
            self.running[name] = await Model.start(self.files[name])

    async def stop(self) -> None:
        """Ends all."""
        for model in self.running.values():
            await model.kill()

    def resident(self, name: str) -> bool:
        """Whether a model is on the GPU or on its way there."""
        return name in self.running or name in self._starting

    async def ask(self, name: str, number: int) -> tuple[Any, int]:
        """The answer, and for how many ns the call waited for its process.

        Raises `LookupError` for what is not served, `ModelFailed`.
        """
        began_ns = perf_counter_ns()
        model = self.running.get(name)
        if model is None:
            model = await self._brought(name)
            waited_ns = perf_counter_ns() - began_ns
        else:
            model.users += 1
            self.running[name] = self.running.pop(name)  # to the end of the order
            waited_ns = 0
        try:
            return await model.ask(number), waited_ns
        except ModelFailed:
            if self.running.get(name) is model:
                del self.running[name]
                self.room += 1
            raise
        finally:
            model.users -= 1
            await self._tell()

    async def _brought(self, name: str) -> Model:
        """A process that is started for this call, or is being started for another."""
        if self.fixed is not None or name not in self.files:
            raise LookupError(name)
        if name not in self._starting:
            self._starting[name] = asyncio.create_task(self._start(name))
        self._waiting[name] += 1
        return await self._starting[name]

    async def _start(self, name: str) -> Model:
        try:
            await self._make_room()
            try:
                model = await Model.start(self.files[name])
            except ModelFailed:
                self.room += 1
                await self._tell()
                raise
            model.users = self._waiting[name]
            self.running[name] = model
            return model
        finally:
            del self._starting[name], self._waiting[name]

    async def _make_room(self) -> None:
        async with self._changed:
            while not self.room:
                idle = next((n for n, model in self.running.items() if not model.users), None)
                if idle is None:
                    await self._changed.wait()
                else:
                    await self.running.pop(idle).kill()
                    self.room += 1
            self.room -= 1

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def call(request: Request) -> Response:
    """POST /functions/{name} {"number": n}."""
    models: Models = request.app.state.models
    try:
        number = int((await request.json())["number"])
        answer, waited_ns = await models.ask(request.path_params["name"], number)
    except LookupError:
        return JSONResponse({"type": "not-served"}, 503)
    except ModelFailed as failed:
        return JSONResponse({"type": "model-failed", "detail": str(failed)}, 500)
    return JSONResponse(answer, headers={"Server-Timing": f"start;dur={waited_ns / 1e6:.3f}"})


async def states(request: Request) -> Response:
    """GET /functions: as a node answers, as far as it is asked here."""
    models: Models = request.app.state.models
    shown = [
        {"name": name, "state": "ready" if models.resident(name) else "absent"}
        for name in models.files
    ]
    return JSONResponse({"functions": shown})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """From the processes that stay to the end of all."""
    models: Models = app.state.models
    await models.start_fixed()
    yield
    await models.stop()


def main(config: Path, port: int) -> None:
    """Serves until SIGTERM."""
    document = json.loads(config.read_bytes())
    routes = [
        Route("/functions", states),
        Route("/functions/{name}", call, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.models = Models(document["files"], document["capacity"], document["fixed"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
