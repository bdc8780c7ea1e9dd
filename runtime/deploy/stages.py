"""The stages of a deployment that run the author's code, each in a worker of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsfn.functions.errors import (
    DefinitionError,
    DeployError,
    DsfnError,
    FunctionError,
    HandlerCrashed,
    HandlerTimedOut,
    SetupError,
    SnapshotError,
    SourceError,
)
from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Dag
from dsfn.functions.workflow.document import from_document
from dsfn.runtime.deploy.environments import Environment
from dsfn.runtime.deploy.jobs import Jobs
from dsfn.runtime.precision import Precision
from dsfn.runtime.worker.messages import Capture, Discover, Gpu, Prove, Verify

MAX_FUNCTIONS = 200
MAX_WORKFLOWS = 200
MAX_PROOF_S = 120.0  # poison may have code go on for ever
_OUTPUT_LINES = 20
_STATELESS = "A plain function has no state to capture."


@dataclass(frozen=True, slots=True)
class Source:
    """An unpacked bundle and the interpreter that runs it."""

    bundle: Path
    entry: str
    environment: Environment


@dataclass(frozen=True, slots=True)
class Definition:
    """A function that was found in the source."""

    options: Options
    interface: Interface


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a source has to deploy. Its workflows are as they were traced: nothing of what they
    call was looked up yet."""

    functions: tuple[Definition, ...]
    workflows: tuple[Dag, ...] = ()


@dataclass(frozen=True, slots=True)
class Captured:
    """What became of `setup()`. `reason` says why there is no snapshot, None when there is.
    `modules`: the installed ones that the source imports, in its order. `why_no_golden`: why
    its sample has no golden output; `workspace_bytes`, `streams` and `precision` as in
    `SnapshotRef`."""

    reason: str | None
    modules: tuple[str, ...] = ()
    why_no_golden: str | None = None
    workspace_bytes: int = 0
    streams: bool = False
    precision: Precision | None = None


@dataclass(frozen=True, slots=True)
class Stages:
    """Runs the stages within their time limits."""

    jobs: Jobs
    discover_timeout_s: float
    setup_timeout_s: float

    async def discover(self, source: Source) -> Discovered:
        """The functions and workflows of the source. Raises `DeployError`."""
        job = Discover(bundle=str(source.bundle), entry=source.entry)
        with _blamed(SourceError, f"Importing {source.entry}", self.discover_timeout_s):
            result = await self.jobs.run(source.environment, job, self.discover_timeout_s)
        functions = tuple(
            Definition(
                Options.from_document(document["options"]),
                Interface.from_document(document["interface"]),
            )
            for document in result.document["functions"]
        )
        workflows = tuple(from_document(dag) for dag in result.document["workflows"])
        found = Discovered(functions, workflows)
        _check(source.entry, found)
        return found

    async def capture(
        self, source: Source, options: Options, staging: Path, gpus: tuple[Gpu, ...]
    ) -> Captured:
        """Runs `setup()` and captures into `staging`. Raises `DeployError`, and `MemoryFull` when
        it finds too little free on these GPUs."""
        name = options.name
        job = Capture(
            bundle=str(source.bundle),
            entry=source.entry,
            function=name,
            staging=str(staging),
            env=dict(options.env),
            code=source.bundle.name,
            gpus=gpus,
        )
        with _blamed(SetupError, f"setup() of {name}", self.setup_timeout_s, name):
            result = await self.jobs.run(source.environment, job, self.setup_timeout_s, gpus)
        document = result.document
        precision = document["precision"]
        reason = None if document["captured"] else document["reason"] or _STATELESS
        return Captured(
            reason,
            tuple(document["modules"]),
            document["why_no_golden"],
            document["workspace_bytes"],
            precision=None if precision is None else Precision.from_document(precision),
        )

    async def verify(
        self, source: Source, options: Options, staging: Path, gpus: tuple[Gpu, ...]
    ) -> Captured:
        """Restores the snapshot in a fresh worker on these GPUs, and calls its sample; `modules`
        are then those that a restore and that call need.

        A snapshot that does not come back whole must never be published, but the
        function can do without. Raises `DeployError` where the author's code failed.
        """
        job = Verify(
            bundle=str(source.bundle),
            entry=source.entry,
            function=options.name,
            snapshot=str(staging),
            env=dict(options.env),
            gpus=gpus,
        )
        try:
            result = await self.jobs.run(source.environment, job, self.setup_timeout_s, gpus)
        except (SnapshotError, FunctionError) as error:
            if error.fields.get("traceback"):
                with _blamed(SetupError, f"Restoring {options.name}", self.setup_timeout_s):
                    raise  # it hangs in the author's code
            reason = _uncapitalised(error.message)
            return Captured(f"The snapshot could not be restored: {reason}")
        return Captured(None, tuple(result.document["modules"]))

    async def prove(
        self, source: Source, options: Options, staging: Path, gpus: tuple[Gpu, ...]
    ) -> bool:
        """Whether calls may run while the verified snapshot's slabs arrive. Whatever stands
        against it, the proof's own failure included, is a no."""
        job = Prove(
            bundle=str(source.bundle),
            entry=source.entry,
            function=options.name,
            snapshot=str(staging),
            env=dict(options.env),
            gpus=gpus,
        )
        timeout_s = min(self.setup_timeout_s, MAX_PROOF_S)
        try:
            result = await self.jobs.run(source.environment, job, timeout_s, gpus)
        except DsfnError:
            return False
        return bool(result.document["streams"])


@contextmanager
def _blamed(
    kind: type[DeployError], what: str, timeout_s: float, function: str | None = None
) -> Iterator[None]:
    """Says which of the author's code hung (and where) or ended its process, with its last
    words."""
    try:
        yield
    except FunctionError as error:
        lines = str(error.fields.get("output", "")).splitlines()[-_OUTPUT_LINES:]
        printed = "\n".join(lines)
        words = f"{what} {_fate(error, timeout_s)}."
        if printed:
            words += f" The last that it printed:\n{printed}"
        where = error.fields.get("traceback")
        raise kind(words, function=function, output=printed, traceback=where) from error


def _fate(error: FunctionError, timeout_s: float) -> str:
    fields = error.fields
    if isinstance(error, HandlerTimedOut):
        return f"took longer than {timeout_s:g} s"
    if isinstance(error, HandlerCrashed) and "exit_code" in fields:
        return f"ended the process with exit code {fields['exit_code']}"
    if isinstance(error, HandlerCrashed) and "signal" in fields:
        return f"was ended by signal {fields['signal']}"
    return f"failed: {_uncapitalised(error.message).removesuffix('.')}"


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _check(entry: str, found: Discovered) -> None:
    functions = [definition.options.name for definition in found.functions]
    workflows = [dag.name for dag in found.workflows]
    if not functions and not workflows:
        raise DefinitionError(f"{entry} defines no function; put @dsfn.function above one.")
    if len(functions) > MAX_FUNCTIONS:
        raise DefinitionError(f"{entry} defines more than {MAX_FUNCTIONS} functions.")
    if len(workflows) > MAX_WORKFLOWS:
        raise DefinitionError(f"{entry} defines more than {MAX_WORKFLOWS} workflows.")
    for name, times in Counter([*functions, *workflows]).items():
        if times > 1:
            raise DefinitionError(
                f"{entry} defines two functions or workflows with the name {name!r}.",
                function=name,
            )
