from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from no_leases import no_leases
from node_tiers import make_tiers
from patience import within
from revisions import make_revision
from torch.nn import functional
from wheels import make_wheel

from dsfn.billing.sqlite import connect
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.functions.errors import (
    BundleError,
    CorruptSnapshot,
    DefinitionError,
    DsfnError,
    NotReady,
    SetupError,
    SourceError,
    StorageFull,
    Unavailable,
)
from dsfn.runtime.canaries.canaries import Canaries
from dsfn.runtime.canaries.store import CanaryStore
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import GpuSettings
from dsfn.runtime.deploy import turns as turns_module
from dsfn.runtime.deploy.bundle import pack
from dsfn.runtime.deploy.environments import Environment, Environments
from dsfn.runtime.deploy.jobs import JobResult, Jobs
from dsfn.runtime.deploy.pipeline import Deployed, Pipeline, Progress
from dsfn.runtime.gpus.found import Found
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry
from dsfn.runtime.replicas.jobs import Jobs as WorkerJobs
from dsfn.runtime.replicas.launcher import Launcher
from dsfn.runtime.replicas.soundness import Soundness
from dsfn.runtime.serving import Tell
from dsfn.runtime.worker.messages import Capture, Gpu, Message
from dsfn.runtime.workflows.linker import Linker
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.snapshots.reading import read_manifest

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

ECHO = '''
import dsfn

@dsfn.on(type="shout")
@dsfn.function
def echo(text: str) -> str:
    """Says it again."""
    return text
'''
CALLER = """
import dsfn

@dsfn.function
def louder(text: str) -> str:
    return text.upper()

echo = dsfn.deployed("echo")

@dsfn.workflow
def shouted(text: str) -> str:
    return echo(louder(text))
"""
WEIGHTS = """
import dsfn
import torch

@dsfn.function
class Scale:
    def setup(self) -> None:
        self.weight = torch.arange(1000, dtype=torch.float32)

    def __call__(self, factor: float) -> float:
        return float((self.weight * factor).sum())
"""


NO_GPUS = Gpus(Found((), "it is a test's"), GpuSettings(), "default", 30)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def jobs(loop: asyncio.Runner) -> Iterator[WorkerJobs]:
    """Real workers; one fork server serves all tests, since it has torch to import."""
    launcher = Launcher(spares=0)
    yield WorkerJobs(launcher, NO_GPUS, no_leases())
    loop.run(launcher.close())


@dataclass
class Deployer:
    """A pipeline on a directory of its own, and the source that is deployed."""

    loop: asyncio.Runner
    root: Path
    pipeline: Pipeline

    @property
    def registry(self) -> Registry:
        return self.pipeline.registry

    def write(self, source: str, name: str = "app.py") -> Path:
        path = self.root / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return path

    def deploy(self, source: str) -> tuple[Deployed, ...]:
        return self.steps(self.write(source))[-1].result

    def steps(self, path: Path) -> list[Progress]:
        bundle = pack(path)

        async def collect() -> list[Progress]:
            return [step async for step in self.pipeline.deploy(bundle.data, bundle.entry)]

        return self.loop.run(within(collect(), 120))

    def refused(self, source: str, kind: type[DsfnError]) -> DsfnError:
        """The error of a deployment that must fail and change nothing."""
        before = (self.registry.functions(), self.registry.subscriptions())
        snapshots = self.pipeline.snapshots.digests()
        with pytest.raises(kind) as caught:
            self.deploy(source)
        assert (self.registry.functions(), self.registry.subscriptions()) == before
        assert self.pipeline.snapshots.digests() == snapshots
        self.assert_nothing_staged()
        return caught.value

    def assert_nothing_staged(self) -> None:
        assert not [p for p in self.root.rglob(".staging-*")]


async def no_need(revisions: Sequence[Revision], tell: Tell) -> None:
    """Replicas are started for calls."""


async def registry_alone() -> None:
    """Nothing serves what is deployed here."""


@pytest.fixture
def deployer(tmp_path: Path, loop: asyncio.Runner, jobs: WorkerJobs) -> Iterator[Deployer]:
    connection = connect(tmp_path / "node.db", "")
    registry = Registry(connection, SystemClock())
    environments = Environments(tmp_path / "environments")
    ledger = SqliteLedger(tmp_path / "ledger.db")
    canaries = Canaries(CanaryStore(connection), registry, ledger, registry_alone, SystemClock())
    pipeline = Pipeline(
        bundles=tmp_path / "bundles",
        tiers=make_tiers(tmp_path, connection, registry),
        environments=environments,
        registry=registry,
        jobs=jobs,
        gpus=NO_GPUS,
        soundness=Soundness(tmp_path / "snapshots", environments),
        clock=SystemClock(),
        linker=Linker(registry, WorkflowRegistry(connection, SystemClock())),
        canaries=canaries,
        bring_up=no_need,
    )
    yield Deployer(loop, tmp_path, pipeline)
    ledger.close()
    connection.close()


def test_what_cannot_be_brought_up_is_not_deployed(deployer: Deployer) -> None:
    async def fail(revisions: Sequence[Revision], tell: Tell) -> None:
        tell(revisions[0].function, "It is awaited.")
        raise NotReady("Service echo is not ready: its image cannot be pulled.")

    deployer.deploy(ECHO)
    deployer.pipeline.bring_up = fail
    deployer.refused(ECHO.replace("again", "once more"), NotReady)
    deployer.pipeline.bring_up = no_need
    (deployed,) = deployer.deploy(ECHO)
    assert not deployed.created


def test_a_gpu_that_is_elsewhere_is_asked_for_there(deployer: Deployer) -> None:
    source = WEIGHTS.replace("@dsfn.function", "@dsfn.function(gpu=1)")
    deployer.refused(source, DefinitionError)
    deployer.pipeline.has_gpus_elsewhere = True
    (deployed,) = deployer.deploy(source)
    assert deployed.revision.snapshot is None
    assert "where its GPU is" in (deployed.revision.snapshot_reason or "")


def test_a_plain_function_is_live_with_its_options_interface_and_triggers(
    deployer: Deployer,
) -> None:
    (deployed,) = deployer.deploy(ECHO)
    revision = deployer.registry.route("echo")
    assert deployed == Deployed(revision, created=True)
    assert revision.id.startswith("echo-") and len(revision.id) == len("echo-") + 10
    assert revision.snapshot is None
    assert revision.snapshot_reason == "A plain function has no state to capture."
    assert revision.interface.description == "Says it again."
    assert [p.name for p in revision.interface.parameters] == ["text"]
    (subscription,) = deployer.registry.subscriptions()
    assert (subscription.origin, subscription.filter.exact) == ("decorator", {"type": "shout"})
    assert (deployer.root / "bundles" / revision.bundle_digest / "app.py").read_text() == ECHO
    deployer.assert_nothing_staged()


def test_a_class_is_captured_verified_and_published_step_by_step(deployer: Deployer) -> None:
    steps = deployer.steps(deployer.write(WEIGHTS))
    assert [(step.stage, step.function) for step in steps] == [
        ("discover", None),
        ("setup", "scale"),
        ("verify", "scale"),
        ("publish", "scale"),
        ("done", None),
    ]
    snapshot = deployer.registry.route("scale").snapshot
    assert snapshot is not None and snapshot.bytes >= 4000
    assert deployer.pipeline.snapshots.digests() == (snapshot.digest,)
    deployer.assert_nothing_staged()


def test_the_same_source_again_is_the_same_revision_and_captures_nothing(
    deployer: Deployer,
) -> None:
    (first,) = deployer.deploy(WEIGHTS)
    steps = deployer.steps(deployer.root / "source" / "app.py")
    assert steps[-1].result == (Deployed(first.revision, created=False),)
    assert "setup" not in {step.stage for step in steps}
    assert len(deployer.registry.history("scale")) == 1


SEED = "torch.arange(1000, dtype=torch.float32)"


@pytest.mark.parametrize("weights", [SEED, "torch.rand(1000)"])
@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_a_snapshot_that_is_gone_is_captured_again_by_deploying_the_same_source(
    deployer: Deployer, weights: str, harm: str
) -> None:
    store = deployer.pipeline.snapshots
    (first,) = deployer.deploy(WEIGHTS.replace(SEED, weights))
    assert first.revision.snapshot is not None
    directory = store.path(first.revision.snapshot.digest)
    if harm == "lost":
        shutil.rmtree(directory)
    else:
        (directory / "manifest.json").unlink()
    steps = deployer.steps(deployer.root / "source" / "app.py")
    assert [s.stage for s in steps] == ["discover", "setup", "verify", "publish", "done"]
    ((again,),) = (steps[-1].result,)
    serving = deployer.registry.route("scale")
    assert again == Deployed(serving, created=False)
    assert serving.snapshot is not None
    assert read_manifest(store.path(serving.snapshot.digest))[0] == serving.snapshot.digest
    assert (serving == first.revision) is (weights == SEED)
    assert (serving.id, serving.created_at_us) == (first.revision.id, first.revision.created_at_us)
    assert len(deployer.registry.history("scale")) == 1
    deployer.assert_nothing_staged()


def test_another_source_is_another_revision_and_the_old_one_can_come_back(
    deployer: Deployer,
) -> None:
    (first,) = deployer.deploy(ECHO)
    (second,) = deployer.deploy(ECHO.replace("return text", "return text * 2"))
    assert second.revision.id != first.revision.id
    assert deployer.registry.route("echo") == second.revision
    (again,) = deployer.deploy(ECHO)
    assert again == Deployed(first.revision, created=False)
    assert deployer.registry.route("echo") == first.revision


SWAPPER = """
from pathlib import Path

import dsfn
import torch

@dsfn.function
class Scale:
    def setup(self) -> None:
        self.weight = torch.arange(1000, dtype=torch.float32)

    def after_restore(self) -> None:
        slab = next(line for line in open("/proc/self/maps") if "slab-cpu" in line)
        manifest = Path(slab.split()[-1]).with_name("manifest.json")
        manifest.unlink()
        manifest.symlink_to({})

    def __call__(self, factor: float) -> float:
        return 0.0
"""


def test_what_a_function_links_into_its_snapshot_is_neither_read_nor_told(
    deployer: Deployer,
) -> None:
    secret = deployer.root / "secret"
    secret.write_text("nobody's business " * 9)
    error = deployer.refused(SWAPPER.format(repr(str(secret))), CorruptSnapshot)
    assert error.message == "The snapshot is damaged: manifest.json is not a regular file."
    assert "business" not in str(error.fields)


@pytest.mark.parametrize(
    ("source", "sentence", "shown"),
    [
        ("def f(:\n", "SyntaxError", "app.py"),
        ("import dsfn\nimport no_such_module\n", "no_such_module", "app.py"),
        ("x = 1\nprint('so far')\nraise ValueError('too late')", "too late", "line 3"),
        ("import sys\nsys.exit(4)\n", "SystemExit: 4", "line 2"),
    ],
)
def test_a_source_that_does_not_import_is_refused_with_the_authors_own_traceback(
    deployer: Deployer, source: str, sentence: str, shown: str
) -> None:
    deployer.deploy(ECHO)
    error = deployer.refused(source, SourceError)
    assert sentence in error.message
    assert shown in str(error.fields["traceback"])


def test_an_import_that_ends_the_process_is_told_with_its_last_words(deployer: Deployer) -> None:
    source = "import os\nprint('almost', flush=True)\nos._exit(3)\n"
    error = deployer.refused(source, SourceError)
    assert error.message == (
        "Importing app.py ended the process with exit code 3. The last that it printed:\nalmost"
    )
    assert error.fields["output"] == "almost"
    error = deployer.refused("import os\nos.kill(os.getpid(), 11)\n", SourceError)
    assert error.message.startswith("Importing app.py was ended by signal")


def test_an_import_that_hangs_is_stopped(deployer: Deployer) -> None:
    deployer.pipeline.discover_timeout_s = 0.5
    error = deployer.refused("print('waiting', flush=True)\nwhile True: pass\n", SourceError)
    assert error.message.startswith("Importing app.py took longer than 0.5 s.")
    assert error.fields["output"] == "waiting"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no weights')", "ValueError: no weights"),
        ("import os; os._exit(5)", "setup() of scale ended the process with exit code 5."),
        ("while True: pass", "setup() of scale took longer than 0.5 s."),
    ],
)
def test_a_setup_that_fails_is_told_and_the_old_revision_goes_on_serving(
    deployer: Deployer, body: str, message: str
) -> None:
    (old,) = deployer.deploy(WEIGHTS)
    if "while" in body:
        deployer.pipeline.setup_timeout_s = 0.5
    error = deployer.refused(
        WEIGHTS.replace("self.weight =", f"{body}\n        self.weight ="), SetupError
    )
    assert message in error.message
    assert error.fields["function"] == "scale"
    assert deployer.registry.route("scale") == old.revision


def test_one_function_that_fails_keeps_all_of_its_file_from_becoming_live(
    deployer: Deployer,
) -> None:
    broken = """
@dsfn.function
class Broken:
    def setup(self) -> None:
        raise RuntimeError("no")

    def __call__(self) -> str:
        return ""
"""
    deployer.refused(WEIGHTS + broken, SetupError)
    fine = broken.replace('raise RuntimeError("no")', "self.x = 1")
    assert {d.revision.function for d in deployer.deploy(WEIGHTS + fine)} == {"scale", "broken"}
    assert deployer.registry.serving() == {
        d.id for d in map(deployer.registry.route, ("scale", "broken"))
    }


def test_a_state_that_cannot_be_captured_deploys_with_the_reason(deployer: Deployer) -> None:
    source = WEIGHTS.replace("import torch", "import torch, threading").replace(
        "self.weight =", "self.lock = threading.Lock()\n        self.weight ="
    )
    (deployed,) = deployer.deploy(source)
    assert deployed.revision.snapshot is None
    assert "lock" in str(deployed.revision.snapshot_reason)
    assert deployer.pipeline.snapshots.digests() == ()
    deployer.assert_nothing_staged()


@dataclass
class Between:
    """Real jobs, with something done after each capture."""

    jobs: Jobs
    after_capture: Callable[[Path], None]

    async def run(
        self,
        environment: Environment,
        job: Message,
        timeout_s: float,
        gpus: Sequence[Gpu] = (),
    ) -> JobResult:
        result = await self.jobs.run(environment, job, timeout_s, gpus)
        if isinstance(job, Capture):
            self.after_capture(Path(job.staging))
        return result

    async def preload(self, environment: Environment, modules: list[str]) -> None:
        await self.jobs.preload(environment, modules)


def test_a_snapshot_that_does_not_verify_is_never_published(deployer: Deployer) -> None:
    def damage(staging: Path) -> None:
        slab = staging / "slab-cpu.safetensors"
        data = bytearray(slab.read_bytes())
        data[-1] ^= 1
        slab.write_bytes(data)

    deployer.pipeline.jobs = Between(deployer.pipeline.jobs, damage)
    (deployed,) = deployer.deploy(WEIGHTS)
    assert deployed.revision.snapshot is None
    assert str(deployed.revision.snapshot_reason).startswith("The snapshot could not be restored:")
    assert deployer.registry.route("scale") == deployed.revision
    assert deployer.pipeline.snapshots.digests() == ()
    deployer.assert_nothing_staged()


SAMPLED = WEIGHTS.replace(
    "    def __call__",
    "    def sample(self) -> dict[str, object]:\n        return {'factor': 2}\n\n    def __call__",
)


def test_a_snapshot_is_published_with_what_its_sample_showed(deployer: Deployer) -> None:
    steps = deployer.steps(deployer.write(SAMPLED))
    assert not any("sample" in step.message for step in steps)
    (deployed,) = steps[-1].result
    snapshot = deployed.revision.snapshot
    assert snapshot is not None
    assert (snapshot.golden, snapshot.first_use, snapshot.workspace_bytes) == (True, 1, 0)
    assert deployer.registry.route("scale").snapshot == snapshot
    _, manifest = read_manifest(deployer.pipeline.snapshots.path(snapshot.digest))
    assert manifest.code == deployed.revision.bundle_digest
    assert manifest.options == deployed.revision.options.digest
    assert {"torch", "dsfn"}.isdisjoint(manifest.libraries)
    assert "pydantic" in manifest.libraries


LOWERED = """
import dsfn
import torch

@dsfn.function(precision="int8")
class Classify:
    def setup(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(256, 64)

    def sample(self) -> dict[str, object]:
        return {"value": 2.0}

    @torch.no_grad()
    def __call__(self, value: float) -> dict[str, object]:
        scores = self.model(torch.linspace(-value, value, 256))
        return {"scores": scores.tolist(), "best": int(scores.argmax())}
"""


def test_what_lower_precision_costs_is_told_and_kept(deployer: Deployer) -> None:
    torch.manual_seed(0)
    exact = torch.nn.Linear(256, 64)
    rounded = (exact.weight / (scale := exact.weight.abs().amax(1, keepdim=True) / 127)).round()
    given = torch.linspace(-2, 2, 256)
    with torch.no_grad():
        reference = exact(given)
        off = functional.linear(given, rounded * scale, exact.bias) - reference
    steps = deployer.steps(deployer.write(LOWERED))
    snapshot = steps[-1].result[0].revision.snapshot
    assert snapshot is not None and snapshot.precision is not None and snapshot.golden
    found = snapshot.precision
    assert (found.kind, found.equal_share, found.differs) == ("int8", 1.0, None)
    assert (found.bytes_before, found.bytes_after, found.kept_bytes) == (65792, 16896, 256)
    assert found.relative_error == pytest.approx(float(off.norm() / reference.norm()), rel=1e-3)
    assert found.largest_difference == pytest.approx(float(off.abs().max()), rel=1e-3)
    told = [step.message for step in steps if "int8" in step.message]
    assert told == [found.summary()]
    assert told[0].startswith(
        "In int8 its tensors take 16.9 kB instead of 65.8 kB, 0.3 kB of them as they were."
        " With the sample, numbers are off by 0."
    )
    assert deployer.registry.route("classify").snapshot == snapshot


def test_weights_in_another_precision_are_another_revision(deployer: Deployer) -> None:
    (first,) = deployer.deploy(LOWERED)
    (second,) = deployer.deploy(LOWERED.replace("int8", "fp8"))
    (again,) = deployer.deploy(LOWERED)
    assert first.revision.id == again.revision.id != second.revision.id
    assert not again.created
    assert again.revision.snapshot == first.revision.snapshot


def test_lower_precision_without_a_sample_is_refused(deployer: Deployer) -> None:
    error = deployer.refused(LOWERED.replace("def sample", "def example"), DefinitionError)
    assert "precision of 'classify' needs a class with a sample()" in error.message


def test_that_a_samples_output_varies_is_told(deployer: Deployer) -> None:
    counting = "self.calls = getattr(self, 'calls', 0) + 1\n        return self.calls * float("
    varying = SAMPLED.replace("return float(", counting)
    steps = deployer.steps(deployer.write(varying))
    (told,) = [step for step in steps if "sample" in step.message]
    assert (told.stage, told.function) == ("setup", "scale")
    assert told.message.startswith(
        "The output of the sample will not be compared after a restore: two calls with the same"
    )
    snapshot = steps[-1].result[0].revision.snapshot
    assert snapshot is not None and not snapshot.golden


def test_a_function_that_answers_otherwise_when_restored_starts_without_a_snapshot(
    deployer: Deployer,
) -> None:
    # What setup() leaves on the class is in no snapshot.
    remembering = SAMPLED.replace("self.weight =", "type(self).born = True\n        self.weight =")
    remembering = remembering.replace("* factor)", "* factor * hasattr(self, 'born'))")
    (deployed,) = deployer.deploy(remembering)
    assert deployed.revision.snapshot is None
    reason = str(deployed.revision.snapshot_reason)
    assert reason.startswith("The snapshot could not be restored: restored, the function answers")
    assert deployer.pipeline.snapshots.digests() == ()


def test_a_quarantined_snapshot_is_made_anew_in_the_place_of_the_old_one(
    deployer: Deployer,
) -> None:
    (first,) = deployer.deploy(WEIGHTS)
    assert first.revision.snapshot is not None
    slab = deployer.pipeline.snapshots.path(first.revision.snapshot.digest) / "slab-cpu.safetensors"
    sound = slab.read_bytes()
    slab.chmod(0o600)
    slab.write_bytes(sound[:-1] + b"\1")
    deployer.registry.quarantine(first.revision.id, "The snapshot is quarantined. It was broken.")
    steps = deployer.steps(deployer.write(WEIGHTS))
    (told,) = [step for step in steps if step.stage == "setup"]
    assert told.message.startswith("The snapshot is quarantined. It was broken. Running setup()")
    (again,) = steps[-1].result
    assert again == Deployed(first.revision, created=False)
    assert deployer.registry.route("scale") == first.revision
    assert slab.read_bytes() == sound


def test_a_directory_is_deployed_with_its_own_packages(deployer: Deployer) -> None:
    deployer.write("SUFFIX = '!'\n", "words/__init__.py")
    deployer.write(ECHO.replace("import dsfn", "import dsfn\nfrom words import SUFFIX"))
    steps = deployer.steps(deployer.root / "source")
    assert [d.revision.function for d in steps[-1].result] == ["echo"]


def test_requirements_are_there_before_the_source_is_imported(deployer: Deployer) -> None:
    spelt = make_wheel(deployer.root, "dsfn_spelt", "1.0", "")
    computed = make_wheel(deployer.root, "dsfn_computed", "1.0", "")
    source = f"""
import dsfn
import dsfn_spelt

@dsfn.function(requirements=[{str(spelt)!r}])
def one() -> str:
    return ""

@dsfn.function(requirements=[{str(computed)!r}.lower()])
def other() -> str:
    return ""
"""
    assert str(computed).islower(), "pytest names its directories in lower case"
    steps = deployer.steps(deployer.write(source))
    assert [step.stage for step in steps if step.stage == "discover"] == ["discover"] * 2
    assert any("Successfully installed dsfn_spelt" in s.message.replace("-", "_") for s in steps)
    revisions = [d.revision for d in steps[-1].result]
    assert len({r.environment for r in revisions}) == 1, "one file, one environment"
    assert deployer.pipeline.environments.python(revisions[0].environment).exists()


def test_requirements_that_cannot_be_installed_are_told_in_pips_words(deployer: Deployer) -> None:
    source = ECHO.replace("@dsfn.function", "@dsfn.function(requirements=['/no/such.whl'])")
    assert "pip could not install /no/such.whl" in deployer.refused(source, DefinitionError).message


def test_a_function_that_asks_for_gpus_is_refused_where_there_are_none(deployer: Deployer) -> None:
    error = deployer.refused(
        ECHO.replace("@dsfn.function", "@dsfn.function(gpu=0.5)"), DefinitionError
    )
    assert error.message == (
        "The deploy failed: echo asks for 0.5 GPUs, and this node has none (it is a test's):"
        " take `gpu` away, or deploy it where there are as many."
    )


@pytest.mark.parametrize("annotation", ["numpy.ndarray", "list[dsfn.Image]"])
def test_a_signature_that_makes_no_sense_is_a_sentence_without_a_traceback(
    deployer: Deployer, annotation: str
) -> None:
    source = ECHO.replace("import dsfn", "import dsfn, numpy").replace(
        "text: str", f"text: {annotation}"
    )
    error = deployer.refused(source, DefinitionError)
    assert "'text' of 'echo'" in error.message
    assert "traceback" not in error.fields


def test_a_mistake_in_a_decorator_shows_the_authors_line_and_no_other(deployer: Deployer) -> None:
    source = ECHO.replace("@dsfn.function", "@dsfn.function(speed=9)")
    error = deployer.refused(source, DefinitionError)
    assert error.message == "@function has no option 'speed'."
    shown = str(error.fields["traceback"])
    assert shown.count("  File ") == 1 and 'File "app.py", line 5' in shown
    assert error.message not in shown
    line, marks = shown.splitlines()[-2:]
    assert line[marks.index("^") : marks.rindex("^") + 1] == "dsfn.function(speed=9)"


FLOW = """

@dsfn.workflow
def flow(text: str) -> str:
    return BODY
"""


def test_a_body_that_raises_shows_its_traceback_and_a_refusal_its_line(deployer: Deployer) -> None:
    raised = deployer.refused(ECHO + FLOW.replace("BODY", "{}['no']"), DefinitionError)
    assert "the body raised KeyError: 'no'." in raised.message
    shown = str(raised.fields["traceback"])
    assert shown.count("  File ") == 1 and shown.endswith("KeyError: 'no'\n")
    refused = deployer.refused(ECHO + FLOW.replace("BODY", "text + '!'"), DefinitionError)
    assert "`return text + '!'`): input 'text' cannot be computed with" in refused.message
    assert "traceback" not in refused.fields


def test_a_file_without_functions_is_refused(deployer: Deployer) -> None:
    assert "app.py has no functions" in deployer.refused("x = 1\n", DefinitionError).message


@pytest.mark.parametrize("entry", ["other.py", "", "../app.py", "/etc/passwd.py", "app", "\0.py"])
def test_an_entry_that_is_not_in_the_bundle_is_refused(deployer: Deployer, entry: str) -> None:
    data = pack(deployer.write(ECHO)).data

    async def deploy() -> None:
        async for _ in deployer.pipeline.deploy(data, entry):
            pass

    with pytest.raises(BundleError, match=r"no file .* of Python or YAML"):
        deployer.loop.run(deploy())


def test_a_full_disk_stops_the_deployment_and_changes_nothing(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.deploy(ECHO)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "rename", full)
    deployer.refused(WEIGHTS, StorageFull)


class Blocked:
    """Jobs that never end."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def run(
        self,
        environment: Environment,
        job: Message,
        timeout_s: float,
        gpus: Sequence[Gpu] = (),
    ) -> JobResult:
        self.started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def preload(self, environment: Environment, modules: list[str]) -> None:
        raise AssertionError


@asynccontextmanager
async def deploying(pipeline: Pipeline, data: bytes) -> AsyncIterator[asyncio.Task[None]]:
    async def consume() -> None:
        async for _ in pipeline.deploy(data, "app.py"):
            pass

    task = asyncio.create_task(consume())
    yield task
    task.cancel()
    await asyncio.wait({task})


def test_deployments_wait_for_each_other_within_limits(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "MAX_UNDER_WAY", 2)
    data = pack(deployer.write(ECHO)).data
    blocked = Blocked()
    deployer.pipeline.jobs = blocked

    async def crowd() -> None:
        async with deploying(deployer.pipeline, data):
            async with asyncio.timeout(10):
                await blocked.started.wait()
            waiting = deployer.pipeline.deploy(data, "app.py")
            assert "Waiting for another" in (await anext(waiting)).message
            with pytest.raises(Unavailable) as caught:
                await anext(deployer.pipeline.deploy(data, "app.py"))
            assert caught.value.fields["retry_after_s"] == 10
            monkeypatch.setattr(turns_module, "WAIT_TIMEOUT_S", 0.01)
            await waiting.aclose()
            late = deployer.pipeline.deploy(data, "app.py")
            await anext(late)
            with pytest.raises(Unavailable, match="has not ended in time"):
                await anext(late)

    deployer.loop.run(crowd())


def test_one_that_does_not_come_up_holds_up_no_other_function(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(deployer.write(ECHO)).data
    other = pack(deployer.write(ECHO.replace("echo", "cry"))).data
    reached, up = asyncio.Event(), asyncio.Event()

    async def slow(revisions: Sequence[Revision], _: Tell) -> None:
        if [each.function for each in revisions] == ["echo"]:
            reached.set()
            await up.wait()

    monkeypatch.setattr(deployer.pipeline, "bring_up", slow)

    async def side_by_side() -> None:
        async with deploying(deployer.pipeline, first) as begun, asyncio.timeout(60):
            await reached.wait()
            async with deploying(deployer.pipeline, other) as beside:
                await beside
            assert deployer.registry.has("cry") and not deployer.registry.has("echo")
            again = deployer.pipeline.deploy(first, "app.py")
            words = [(await anext(again)).message, (await anext(again)).message]
            assert words[-1] == "Waiting for another deployment of echo to end."
            up.set()
            await begun
            steps = [step async for step in again]
            assert steps[-1].result[0].created is False

    deployer.loop.run(side_by_side())


def test_a_workflow_is_checked_against_what_became_live_while_it_came_up(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.deploy(ECHO)
    calls = deployer.write(CALLER)
    reached, up = asyncio.Event(), asyncio.Event()

    async def slow(revisions: Sequence[Revision], _: Tell) -> None:
        if [each.function for each in revisions] == ["louder"]:
            reached.set()
            await up.wait()

    monkeypatch.setattr(deployer.pipeline, "bring_up", slow)
    data = pack(calls).data
    other = pack(deployer.write(ECHO.replace("text: str", "text: list[int]"))).data

    async def side_by_side() -> None:
        async with deploying(deployer.pipeline, data) as begun, asyncio.timeout(60):
            await reached.wait()
            async with deploying(deployer.pipeline, other) as beside:
                await beside
            up.set()
            with pytest.raises(DefinitionError, match="echo"):
                await begun

    deployer.loop.run(side_by_side())
    assert not deployer.registry.has("louder")


def test_a_deployment_that_no_one_follows_any_more_is_stopped_and_the_next_goes_on(
    deployer: Deployer, jobs: WorkerJobs
) -> None:
    data = pack(deployer.write(ECHO)).data
    blocked = Blocked()
    deployer.pipeline.jobs = blocked

    async def leave() -> None:
        async with deploying(deployer.pipeline, data):
            async with asyncio.timeout(10):
                await blocked.started.wait()

    deployer.loop.run(leave())
    deployer.assert_nothing_staged()
    deployer.pipeline.jobs = jobs
    assert deployer.deploy(ECHO)[0].created


def test_what_a_killed_node_left_is_dropped_at_the_next_start(deployer: Deployer) -> None:
    (deployed,) = deployer.deploy(ECHO)
    stale = deployer.root / "bundles" / ".staging-left"
    stale.mkdir()
    (deployer.root / "environments" / "half" / "bin").mkdir(parents=True)
    deployer.pipeline.snapshots.stage()
    deployer.pipeline.clean()
    deployer.assert_nothing_staged()
    assert not (deployer.root / "environments" / "half").exists()
    assert (deployer.root / "bundles" / deployed.revision.bundle_digest).exists()


def test_deploying_gives_back_the_traffic_that_was_split(deployer: Deployer) -> None:
    (first,) = deployer.deploy(ECHO)
    other = make_revision(9)
    deployer.registry.register(other)
    deployer.registry.set_traffic("echo", {other.id: 50, first.revision.id: 50})
    deployer.deploy(ECHO)
    assert deployer.registry.function("echo").traffic == {first.revision.id: 100}
