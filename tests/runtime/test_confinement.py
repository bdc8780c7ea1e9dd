"""Code of functions that is deployed beside the platform's keys: what it reaches, and what not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from no_leases import no_leases
from test_pipeline import NO_GPUS, WEIGHTS, Deployer, deployer, jobs, loop
from wheels import make_sdist, make_wheel

from dsfn.functions.errors import DefinitionError, DeployError, SetupError, SourceError
from dsfn.runtime import landlock
from dsfn.runtime.deploy.confinement import Confinement
from dsfn.runtime.replicas.jobs import Jobs as WorkerJobs

__all__ = ["deployer", "jobs", "loop"]

pytestmark = pytest.mark.skipif(not landlock.version(), reason="The kernel has no Landlock.")

TRIES = """
import os, signal, socket, subprocess, sys, tempfile
from pathlib import Path

import dsfn
import torch

DATA, SECRETS, OTHER = Path({data!r}), Path({secrets!r}), {other!r}

def attempt() -> None:
    {attempt}

{at_import}

@dsfn.function
class Tries:
    def setup(self) -> None:
        self.weight = torch.arange(9.0)
        {at_setup}

    def sample(self) -> dict[str, object]:
        return {{"factor": 2.0}}

    def __call__(self, factor: float) -> float:
        {at_call}
        return float((self.weight * factor).sum())
"""
REFUSED = {
    "a key": "(DATA / 'node.key').read_text()",
    "a key through its own files": "Path('../../node.key').read_text()",
    "a key in a child": "subprocess.run(['cat', DATA / 'node.key'], check=True)",
    "the names of what is there": "os.listdir(DATA)",
    "a database": "(DATA / 'node.db').open('r+b')",
    "the end of a database": "os.truncate(DATA / 'node.db', 0)",
    "another's source": "(DATA / 'bundles' / OTHER / 'app.py').read_text()",
    "another's snapshot": "next((DATA / 'snapshots').iterdir())",
    "a token": "(SECRETS / 'token').read_text()",
    "a link to a token": "os.symlink(SECRETS / 'token', 'token')",
    "its source": "open(__file__, 'a')",
    "an end of its source": "os.unlink(__file__)",
    "a file beside it": "Path('more.py').touch()",
    "something new in the data directory": "(DATA / 'config.toml').write_text('')",
    "the node": "os.kill({node}, signal.SIGCONT)",
    "the node's own files": "open('/proc/{node}/cwd/pyproject.toml')",
}


@pytest.fixture
def confined(
    deployer: Deployer, jobs: WorkerJobs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployer]:
    """A pipeline beside keys, and beside another's function."""
    deployer.deploy(WEIGHTS)
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "token").write_text("nobody's business")
    (deployer.root / "node.key").write_text("nobody's business")
    confinement = Confinement(deployer.root, (secrets,))
    deployer.pipeline.confinement = confinement
    deployer.pipeline.jobs = WorkerJobs(jobs.launcher, NO_GPUS, no_leases(), confinement)
    yield deployer
    assert list((deployer.root / "homes").iterdir()) == []
    assert (deployer.root / "node.key").read_text() == "nobody's business"


def source(
    confined: Deployer, attempt: str, at_import: str = "", at_setup: str = "", at_call: str = ""
) -> str:
    """An app that tries something at one of these places, each code."""
    (other,) = (p.name for p in (confined.root / "bundles").iterdir())
    assert confined.pipeline.confinement is not None
    return TRIES.format(
        data=str(confined.root),
        secrets=str(confined.pipeline.confinement.secrets[0]),
        other=other,
        attempt=attempt,
        at_import=at_import,
        at_setup=at_setup or "pass",
        at_call=at_call or "pass",
    )


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED)
def test_a_setup_that_reaches_for_what_is_not_its_own_is_refused(
    confined: Deployer, attempt: str
) -> None:
    attempt = attempt.format(node=os.getpid())
    error = confined.refused(source(confined, attempt, at_setup="attempt()"), SetupError)
    assert "PermissionError" in error.message or "returned non-zero" in error.message


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("at_import", SourceError),
        ("at_call", SetupError),
    ],
)
def test_so_it_is_at_its_import_and_in_a_sample(
    confined: Deployer, place: str, kind: type[DeployError]
) -> None:
    error = confined.refused(
        source(confined, "(DATA / 'node.key').read_text()", **{place: "attempt()"}), kind
    )
    assert "PermissionError" in error.message


HARMLESS = """(
        (Path.home() / '.cache' / 'model').mkdir(parents=True),
        (Path.home() / '.cache' / 'model' / 'weights').write_text('x'),
        (Path.home() / '.cache' / 'model' / 'weights').rename(Path.home() / 'weights'),
        tempfile.NamedTemporaryFile().write(b'x'),
        subprocess.run([sys.executable, '-c', 'import json, socket, dsfn'], check=True),
        torch.ones(9).share_memory_(),
        Path(__file__).read_text(),
        Path('/proc/self/status').read_text(),
        Path('/etc/passwd').read_text(),
        open('/dev/null', 'w').write('x'),
        socket.socketpair(),
        os.kill(os.getpid(), 0),
    )"""


def test_an_ordinary_one_is_captured_with_all_that_it_needs(confined: Deployer) -> None:
    text = source(confined, HARMLESS, at_import="attempt()", at_setup="attempt()")
    text = text.replace("(parents=True)", "(parents=True, exist_ok=True)")
    (deployed,) = confined.deploy(text)
    assert deployed.revision.snapshot is not None, deployed.revision.snapshot_reason
    assert deployed.revision.snapshot.golden


def with_requirement(requirement: str, imported: str = "") -> str:
    """An app that imports a module of what it requires."""
    return (
        f"import dsfn\n{imported}\n\n@dsfn.function(requirements=[{requirement!r}])\n"
        "def answer() -> int:\n    return 42\n"
    )


def test_what_pip_builds_reaches_no_more(
    confined: Deployer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("sdists")
    key, other = confined.root / "node.key", next((confined.root / "bundles").iterdir())
    for attempt in (f"open({str(key)!r})", f"open({str(other / 'new.py')!r}, 'w')"):
        app = with_requirement(make_sdist(place, "grabbing", attempt))
        error = confined.refused(app, DefinitionError)
        assert "PermissionError" in error.message
    assert not list((confined.root / "environments").iterdir())


def test_what_pip_builds_is_installed_and_its_code_reaches_no_more(
    confined: Deployer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, key = tmp_path_factory.mktemp("wheels"), str(confined.root / "node.key")
    home = "from pathlib import Path; (Path.home() / 'built').write_text('x')"
    requirement = make_sdist(place, "homely", home)
    (deployed,) = confined.deploy(with_requirement(requirement, "import homely"))
    assert deployed.revision.environment
    wheel = str(make_wheel(place, "grabbing", "1.0", f"open({key!r})"))
    error = confined.refused(with_requirement(wheel, "import grabbing"), SourceError)
    assert "PermissionError" in error.message


def test_an_interpreter_that_runs_code_of_an_environment_is_confined_before(
    confined: Deployer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, key = tmp_path_factory.mktemp("sdists"), str(confined.root / "node.key")
    put = (
        "import sysconfig\n"
        "from pathlib import Path\n"
        f"line = {f'import sys; sys.taken = open({key!r}).read()'!r}\n"
        "Path(sysconfig.get_path('purelib'), 'taking.pth').write_text(line)\n"
    )
    app = with_requirement(make_sdist(place, "taking", put), "import sys\nassert sys.taken")
    error = confined.refused(app, SourceError)
    assert "no attribute 'taken'" in error.message
