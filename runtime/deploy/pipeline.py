"""From a bundle to functions and workflows that serve: all of them, or none and the old ones go
on.

    unpack -> environment -> discover -> check -> for each function: setup, verify -> publish

A workflow in YAML runs nobody's code: it is read here, checked and published.

Everything that can fail comes before the one transaction that makes the new
revisions live.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from dsfn.functions.errors import (
    BundleError,
    CorruptSnapshot,
    DefinitionError,
    DeployError,
    MemoryFull,
    NotFound,
    ShuttingDown,
    SnapshotError,
    Unavailable,
)
from dsfn.functions.options import Options
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Dag
from dsfn.functions.workflow.yaml import read_workflow
from dsfn.runtime.canaries.canaries import Canaries, Trial
from dsfn.runtime.canaries.canary import Terms
from dsfn.runtime.clock import Clock
from dsfn.runtime.deploy.confinement import Confinement
from dsfn.runtime.deploy.environments import Environment, Environments
from dsfn.runtime.deploy.identity import Platform, platform_of, revision_id
from dsfn.runtime.deploy.jobs import Jobs
from dsfn.runtime.deploy.sources import declared_by, is_yaml
from dsfn.runtime.deploy.stages import Captured, Definition, Discovered, Source, Stages
from dsfn.runtime.deploy.turns import Turns
from dsfn.runtime.deploy.unpack import STAGING_PREFIX, unpack
from dsfn.runtime.gpus.found import Found
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.runtime.precision import Precision
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.runtime.serving import Tell
from dsfn.runtime.tiers.tiers import SnapshotTiers
from dsfn.runtime.workflows.linker import Linker
from dsfn.runtime.workflows.model import WorkflowRevision
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.store import FileStore

_GONE = "The snapshot is gone or damaged."
_ON_ITS_GPU = "Its setup() runs where its GPU is, whenever a replica starts."
_NO_GOLDEN = "The output of the sample will not be compared after a restore:"

Stage = Literal["environment", "discover", "check", "setup", "verify", "publish", "done"]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A function that serves now. `created` is false when this very revision was there."""

    revision: Revision
    created: bool


@dataclass(frozen=True, slots=True)
class DeployedWorkflow:
    """A workflow that serves now. `created` is false when this very revision was there."""

    revision: WorkflowRevision
    created: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a deployment, of the function or workflow that it names. The last one has the
    stage "done" and the result. `warns`: of what goes on, and should not be missed."""

    stage: Stage
    function: str | None
    message: str
    result: tuple[Deployed, ...] = ()
    workflows: tuple[DeployedWorkflow, ...] = ()
    warns: bool = False


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A revision before publication; `staging` holds the snapshot to publish with it, if any."""

    revision: Revision
    created: bool
    staging: Path | None = None
    workspace_bytes: int = 0
    streams: bool = False
    precision: Precision | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    """What is to become live; `captured`: the digests of the snapshots that are new."""

    deployed: tuple[Deployed, ...]
    captured: tuple[str, ...]


@dataclass(eq=False)
class Pipeline:
    """The deployments of a node. `has_gpus_elsewhere`: functions run on other machines, and what
    asks for a GPU gets it there; its memory cannot be captured here. `confinement`: of the code of
    functions that runs here, if any."""

    bundles: Path
    tiers: SnapshotTiers
    environments: Environments
    registry: Registry
    jobs: Jobs
    gpus: Gpus
    soundness: Soundness
    clock: Clock
    linker: Linker
    canaries: Canaries
    bring_up: Callable[[Sequence[Revision], Tell], Awaitable[None]]
    has_gpus_elsewhere: bool = False
    confinement: Confinement | None = None
    discover_timeout_s: float = 60.0
    setup_timeout_s: float = 600.0
    _turns: Turns = field(default_factory=Turns)
    _running: set[asyncio.Task[Progress]] = field(default_factory=set)

    @property
    def snapshots(self) -> FileStore:
        """Where snapshots are captured and published."""
        return self.tiers.disk.files

    async def deploy(
        self, data: bytes, entry: str, terms: Terms | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Deploys the functions and workflows of file `entry` in a bundle, step by step; on
        `terms`, functions that have another revision are on trial.

        Raises `DeployError` for the author's mistakes, `Unavailable` when too many
        deployments are under way, `StorageFull`, `ShuttingDown`; in each case nothing has changed.
        Closing the generator stops the deployment, unless it is live already.
        """
        steps: asyncio.Queue[Progress | None] = asyncio.Queue()
        work = asyncio.create_task(self._deploy(data, entry, terms, steps.put_nowait))
        work.add_done_callback(lambda _: steps.put_nowait(None))
        self._running.add(work)
        try:
            while (step := await steps.get()) is not None:
                yield step
            if work.cancelled():
                raise ShuttingDown("The node stopped while it deployed.", retry_after_s=5)
            done = await work
        finally:
            self._running.discard(work)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        yield done

    async def try_restore(self, revision: Revision) -> str | None:
        """Restores a revision's snapshot, which is on the disk, in a fresh process; why that
        does not give what was captured, or None.

        Raises `NotFound` when the snapshot is not here or the environment has gone.
        """
        snapshot = revision.snapshot
        assert snapshot is not None
        environment = Environment(
            revision.environment, self.environments.python(revision.environment)
        )
        source = Source(self.bundles / revision.bundle_digest, revision.entry, environment)
        directory = self.snapshots.path(snapshot.digest)
        with self.tiers.pruner.hold(snapshot.digest):
            try:
                tried = await self._verify(
                    self._stages(), source, revision.options, directory, snapshot.workspace_bytes
                )
            except DeployError as error:
                return error.message
        return tried.reason

    def cut_off(self) -> None:
        """Stops every deployment, since the node will not wait for it any longer."""
        for work in self._running:
            work.cancel()

    def clean(self) -> None:
        """Drops what a killed node left half done. Call at a node's start."""
        for path in self.bundles.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(path)
        self.snapshots.clean()
        self.environments.clean()
        if self.confinement is not None:
            self.confinement.clean()

    async def _deploy(
        self, data: bytes, entry: str, terms: Terms | None, report: Report
    ) -> Progress:
        def say(words: str) -> None:
            report(Progress("environment", None, words))

        with self._turns.under_way(), ExitStack() as holds:
            async with self._turns.making(say):
                digest = await asyncio.to_thread(unpack, data, self.bundles)
                bundle = self.bundles / digest
                if is_yaml(entry):
                    report(Progress("discover", None, f"Reading {entry}."))
                    dag = await asyncio.to_thread(_read_yaml, _entry_path(bundle, entry))
                    workflows = self._link(Discovered((), (dag,)), terms, report)
                    return self._register((), workflows, None, report)
                source, found = await self._discover(bundle, entry, report)
                self._link(found, terms, report)
            async with self._turns.owning({one.options.name for one in found.functions}, say):
                async with self._turns.making(say):
                    made = await self._make(source, found, holds, report)
                done = await self._publish(made.deployed, found, terms, report)
                await self.tiers.published(made.captured)
                return done

    def _require_same(self, workflows: tuple[WorkflowRevision, ...], terms: Terms | None) -> None:
        """Raises `DefinitionError` for a workflow that is to be tried: runs are not shared out."""
        for each in workflows if terms else ():
            if not self.linker.workflows.knows(each.id):
                raise DefinitionError(
                    f"The workflow {each.workflow} would be live at once: a canary is of functions"
                    " alone. Deploy the workflow without --canary, or from a file of its own."
                )

    def _link(
        self, found: Discovered, terms: Terms | None, report: Report
    ) -> tuple[WorkflowRevision, ...]:
        """The workflows of a deployment as revisions; warns of others that it breaks.

        Raises `DefinitionError`.
        """
        fresh = {one.options.name: one.interface for one in found.functions}
        self.linker.check_names(fresh)
        for dag in found.workflows:
            report(Progress("check", dag.name, f"Checking what flows through {dag.name}."))
        linked = self.linker.link(found.workflows, fresh)
        for misfit in self.linker.misfits(fresh, found.workflows):
            words = f"Its next run will fail, until it is deployed again: {misfit.reason}"
            report(Progress("check", misfit.workflow, words, warns=True))
        self._require_same(linked, terms)
        return linked

    async def _discover(
        self, bundle: Path, entry: str, report: Report
    ) -> tuple[Source, Discovered]:
        """What a file has, found in an environment that has all that its functions require.

        What the source spells out is installed before it is imported. What only the
        import can tell is installed after, and the source imported again.
        """
        stages = self._stages()
        wanted = await asyncio.to_thread(declared_by, _entry_path(bundle, entry))
        for _ in range(2):
            environment = await self.environments.ensure(
                tuple(sorted(wanted)),
                lambda line: report(Progress("environment", None, line)),
                self.confinement,
            )
            source = Source(bundle, entry, environment)
            report(Progress("discover", None, f"Importing {entry}."))
            found = await stages.discover(source)
            if not self.has_gpus_elsewhere:
                _require_devices(found.functions, self.gpus.found)
            asked = {r for each in found.functions for r in each.options.requirements}
            if asked <= wanted:
                return source, found
            wanted |= asked
        raise DefinitionError(f"The requirements in {entry} change with every import.")

    async def _draft(
        self, source: Source, definition: Definition, stagings: ExitStack, report: Report
    ) -> _Draft:
        """The revision of one function, found in the registry or captured and verified."""
        options, interface = definition.options, definition.interface
        digest = source.bundle.name
        platform = await self._platform(source, options)
        id_ = revision_id(digest, source.entry, options, interface, platform)
        known = self.registry.find(id_)
        if known is not None and await asyncio.to_thread(self._is_good, known.snapshot):
            return _Draft(known, created=False)
        stages, name = self._stages(), options.name
        staging = self.snapshots.stage()
        stagings.callback(shutil.rmtree, staging, ignore_errors=True)
        lost = "" if known is None else f"{known.snapshot_reason or _GONE} "
        words = f"{lost}Running setup() of {name} and capturing its memory."
        report(Progress("setup", name, words))
        captured = await self._capture(stages, source, options, staging, report)
        if captured.why_no_golden is not None:
            report(Progress("setup", name, f"{_NO_GOLDEN} {captured.why_no_golden}."))
        if captured.precision is not None:
            report(Progress("setup", name, captured.precision.summary()))
        workspace_bytes, precision = captured.workspace_bytes, captured.precision
        if captured.reason is None:
            report(Progress("verify", name, f"Restoring {name} in a fresh process."))
            captured = await self._verify(stages, source, options, staging, workspace_bytes)
        revision = Revision(
            id=id_,
            function=name,
            bundle_digest=digest,
            entry=source.entry,
            environment=source.environment.digest,
            snapshot=None,
            snapshot_reason=captured.reason,
            created_at_us=self.clock.now_us() if known is None else known.created_at_us,
            options=options,
            interface=interface,
            modules=captured.modules,
        )
        whole = staging if captured.reason is None else None
        return _Draft(revision, known is None, whole, workspace_bytes, captured.streams, precision)

    async def _platform(self, source: Source, options: Options) -> Platform:
        """What the function will run on. Raises as `Gpus.owner`."""
        device_class = "gpu" if options.gpu else "cpu"
        if options.gpu and not self.has_gpus_elsewhere:
            await self.gpus.owner()  # which knows its devices' names
            device_class = self.gpus.device_class()
        path = self.environments.search_path(source.environment.digest)
        return await asyncio.to_thread(platform_of, path, device_class)

    async def _capture(
        self, stages: Stages, source: Source, options: Options, staging: Path, report: Report
    ) -> Captured:
        """What `setup()` needs of a GPU nobody knows: it runs beside others, and alone if it
        finds too little. Raises `DeployError`, and `MemoryFull` when alone, too, it finds too
        little or the GPU cannot be had alone."""
        if options.gpu and self.has_gpus_elsewhere:
            return Captured(_ON_ITS_GPU)
        gpus = self.gpus.places(options.gpu)
        try:
            return await stages.capture(source, options, staging, gpus)
        except MemoryFull:
            words = "Too little memory is free on the GPU: waiting until all there are at rest."
            report(Progress("setup", options.name, words))
        try:
            async with self.gpus.borrow(gpus, self.setup_timeout_s):
                return await stages.capture(source, options, staging, gpus)
        except MemoryFull as error:
            message = f"setup() of {options.name}: {error.message}"
            raise MemoryFull(message, **error.fields) from error

    async def _verify(
        self,
        stages: Stages,
        source: Source,
        options: Options,
        staging: Path,
        workspace_bytes: int,
    ) -> Captured:
        room = self.gpus.lend(options.gpu, staging, workspace_bytes, self.setup_timeout_s)
        try:
            async with room as gpus:
                verified = await stages.verify(source, options, staging, gpus)
                # Without a GPU nothing has to arrive.
                if verified.reason is not None or not gpus:
                    return verified
                streams = await stages.prove(source, options, staging, gpus)
                return replace(verified, streams=streams)
        except (Unavailable, SnapshotError) as error:
            return Captured(f"The snapshot could not be restored: {error.message}")

    def _is_good(self, snapshot: SnapshotRef | None) -> bool:
        """Whether a deployed snapshot may serve on; a revision without one lacks nothing."""
        if snapshot is None:
            return True
        return not snapshot.quarantined and self._is_readable(snapshot.digest)

    def _is_readable(self, digest: str) -> bool:
        try:
            read_manifest(self.snapshots.path(digest))
        except NotFound:
            return self.tiers.is_elsewhere(digest)
        except CorruptSnapshot:
            return False
        return True

    def _publish_snapshot(self, draft: _Draft, staging: Path) -> SnapshotRef:
        """Publishes what was captured and verified, in the place of a copy that was no good."""
        digest, manifest = read_manifest(staging)
        there = digest in self.snapshots.digests()
        if there and not (draft.created and self._is_readable(digest)):
            self.snapshots.delete(digest)
        published = self.snapshots.publish(staging)
        snapshot = SnapshotRef(
            digest=published.digest,
            bytes=published.bytes,
            golden=manifest.golden is not None,
            first_use=sum(slab.first_use for slab in manifest.slabs),
            workspace_bytes=draft.workspace_bytes,
            streams=draft.streams,
            precision=draft.precision,
        )
        self.soundness.trust(snapshot)
        return snapshot

    async def _make(
        self, source: Source, found: Discovered, holds: ExitStack, report: Report
    ) -> _Made:
        """Snapshots are on the disk then, where they stay as long as `holds` is open."""
        with ExitStack() as stagings:
            drafts = [
                await self._draft(source, definition, stagings, report)
                for definition in found.functions
            ]
            deployed, captured = list[Deployed](), list[str]()
            for draft in drafts:
                revision = draft.revision
                report(Progress("publish", revision.function, _publication(draft)))
                if draft.staging is not None:
                    snapshot = await asyncio.to_thread(self._publish_snapshot, draft, draft.staging)
                    holds.enter_context(self.tiers.pruner.hold(snapshot.digest))
                    revision = replace(revision, snapshot=snapshot)
                    captured.append(snapshot.digest)
                deployed.append(Deployed(revision, draft.created))
        # In the order in which the source asked for them, which is known to work.
        modules = dict.fromkeys(m for d in deployed for m in d.revision.modules)
        if modules:
            await self.jobs.preload(source.environment, list(modules))
        return _Made(tuple(deployed), tuple(captured))

    async def _publish(
        self,
        deployed: Sequence[Deployed],
        found: Discovered,
        terms: Terms | None,
        report: Report,
    ) -> Progress:
        """Makes all live in one transaction, once they are up."""
        trial = None if terms is None else await self.canaries.prepare(terms)
        await self.bring_up(
            [each.revision for each in deployed],
            lambda function, message: report(Progress("publish", function, message)),
        )
        # Straight to the registry from here: what is up on a cluster and not in it is taken back.
        # Others may have become live meanwhile.
        workflows = self._link(found, terms, lambda _: None)
        return self._register(deployed, workflows, trial, report)

    def _register(
        self,
        deployed: Sequence[Deployed],
        workflows: tuple[WorkflowRevision, ...],
        trial: Trial | None,
        report: Report,
    ) -> Progress:
        """Functions and workflows in one transaction."""
        registry = self.linker.workflows
        flows = []
        for revision in workflows:
            flow = DeployedWorkflow(revision, not registry.knows(revision.id))
            report(Progress("publish", revision.workflow, _flow_publication(flow)))
            flows.append(flow)
        revisions = [each.revision for each in deployed]

        def write() -> None:
            registry.write(*workflows)
            if trial is not None:
                self.canaries.begin(revisions, trial)

        if trial is None:
            self.registry.register(*revisions, beside=write)
        else:
            self._tell_of(trial.terms, revisions, report)
            self.registry.register(*revisions, beside=write, percent=trial.terms.percent)
        registry.read_back(*(revision.workflow for revision in workflows))
        return Progress("done", None, "Deployed.", tuple(deployed), tuple(flows))

    def _tell_of(self, terms: Terms, revisions: Sequence[Revision], report: Report) -> None:
        baselines = self.canaries.candidates(revisions)
        for each in revisions:
            if (baseline := baselines.get(each.function)) is None:
                words = f"{each.id} gets all calls: there is no other revision to compare it with."
            else:
                words = f"{each.id} gets {terms.percent} % of the calls, {baseline} the others."
            report(Progress("publish", each.function, words))

    def _stages(self) -> Stages:
        return Stages(self.jobs, self.discover_timeout_s, self.setup_timeout_s)


def _require_devices(definitions: tuple[Definition, ...], found: Found) -> None:
    """Refuses what this node could only pretend to run."""
    there = len(found.devices)
    for definition in definitions:
        gpu = definition.options.gpu
        if gpu > there:
            count = "1 GPU" if gpu == 1 else f"{gpu:g} GPUs"
            has = f"has {there}" if there else f"has none ({found.why_none})"
            raise DefinitionError(
                f"The deploy failed: {definition.options.name} asks for {count}, and this node"
                f" {has}: take `gpu` away, or deploy it where there are as many.",
                function=definition.options.name,
            )


def _read_yaml(path: Path) -> Dag:
    return read_workflow(path.read_bytes(), path.name)


def _entry_path(bundle: Path, entry: str) -> Path:
    path = PurePosixPath(entry)
    inside = not path.is_absolute() and ".." not in path.parts
    known = path.suffix == ".py" or is_yaml(entry)
    if not inside or not known or not (bundle / path).is_file():
        raise BundleError(f"The bundle has no file {entry!r} of Python or YAML.")
    return bundle / path


def _flow_publication(flow: DeployedWorkflow) -> str:
    serves = "serves from now on" if flow.created else "is deployed already"
    return f"{flow.revision.id} {serves}."


def _publication(draft: _Draft) -> str:
    revision = draft.revision
    if draft.staging is not None:
        return f"{revision.id} starts from its snapshot."
    if not draft.created:
        return f"{revision.id} is deployed already."
    return f"{revision.id} starts without a snapshot. {revision.snapshot_reason}"
