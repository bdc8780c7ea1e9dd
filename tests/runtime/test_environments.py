from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from wheels import make_sdist, make_wheel

from dsfn.functions.errors import DefinitionError, NotFound
from dsfn.runtime.deploy.commands import CommandFailed, run_command
from dsfn.runtime.deploy.environments import Environments


def ignore(line: str) -> None:
    """Progress that no one reads."""


def evaluate(python: Path, source: str) -> str:
    """What another interpreter prints, without the checkout on its path."""
    done = subprocess.run(
        [python, "-c", source], capture_output=True, text=True, check=True, timeout=60, cwd="/"
    )
    return done.stdout.strip()


def test_no_requirements_means_the_nodes_own_interpreter(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments")
    environment = asyncio.run(environments.ensure((), ignore))
    assert (environment.digest, environment.python) == ("", Path(sys.executable))
    assert environments.python("") == Path(sys.executable)
    assert not (tmp_path / "environments").exists()


def test_an_environment_has_its_requirements_and_sees_the_nodes_packages(tmp_path: Path) -> None:
    # idna is installed next to the node: the function's own version must go before it.
    wheels = [
        str(make_wheel(tmp_path, "dsfn_probe", "1.0", "ANSWER = 42")),
        str(make_wheel(tmp_path, "idna", "99.0", "OWN = True")),
    ]
    environments = Environments(tmp_path / "environments")
    lines: list[str] = []
    environment = asyncio.run(environments.ensure(tuple(wheels), lines.append))
    python = environment.python
    assert environments.python(environment.digest) == python
    assert evaluate(python, "import dsfn_probe; print(dsfn_probe.ANSWER)") == "42"
    assert evaluate(python, "import idna; print(idna.OWN)") == "True"
    assert evaluate(python, "import dsfn, starlette, apsw; print(dsfn.__name__)") == "dsfn"
    assert lines[0].startswith("Installing ")
    assert any("Successfully installed" in line for line in lines)
    assert evaluate(Path(sys.executable), "import idna; print(hasattr(idna, 'OWN'))") == "False"

    async def again() -> None:
        more: list[str] = []
        reversed_ = await environments.ensure(tuple(reversed(wheels)), more.append)
        assert reversed_ == environment, "the order of requirements does not matter"
        assert more == [], "what is there is not made again"

    asyncio.run(again())


def test_two_deployments_at_once_make_it_once(tmp_path: Path) -> None:
    wheel = str(make_wheel(tmp_path, "dsfn_probe", "1.0", ""))
    environments = Environments(tmp_path / "environments")
    lines: list[str] = []

    async def both() -> None:
        first, second = await asyncio.gather(
            environments.ensure((wheel,), lines.append), environments.ensure((wheel,), lines.append)
        )
        assert first == second

    asyncio.run(both())
    assert len([line for line in lines if line.startswith("Installing /")]) == 1


def test_what_pip_refuses_is_told_in_its_own_words_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "environments"
    requirement = str(tmp_path / "nothing-1.0-py3-none-any.whl")
    with pytest.raises(DefinitionError) as caught:
        asyncio.run(Environments(root).ensure((requirement,), ignore))
    assert caught.value.message.startswith(f"pip could not install {requirement}:")
    assert "nothing-1.0" in caught.value.message.split("\n", 1)[1]
    assert list(root.iterdir()) == []


def test_a_requirement_is_never_taken_for_an_option(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="Invalid requirement"):
        asyncio.run(Environments(tmp_path / "e").ensure(("--version",), ignore))


def test_an_installation_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments", install_timeout_s=0.05)
    with pytest.raises(DefinitionError, match=r"took longer than 0\.05 s"):
        asyncio.run(environments.ensure(("anything",), ignore))
    assert list((tmp_path / "environments").iterdir()) == []


def test_what_a_killed_node_left_half_made_is_dropped_and_made_again(tmp_path: Path) -> None:
    wheel = str(make_wheel(tmp_path, "dsfn_probe", "1.0", "ANSWER = 42"))
    environments = Environments(tmp_path / "environments")
    environments.clean()
    environment = asyncio.run(environments.ensure((wheel,), ignore))
    path = tmp_path / "environments" / environment.digest
    (path / ".complete").unlink()
    with pytest.raises(NotFound):
        environments.python(environment.digest)
    environments.clean()
    assert not path.exists()
    assert asyncio.run(environments.ensure((wheel,), ignore)) == environment
    (link,) = path.glob("lib/*/site-packages/dsfn-node.pth")
    link.write_text("/where/an/earlier/node/was\n")
    environments.clean()
    assert evaluate(environment.python, "import dsfn_probe, apsw; print('both')") == "both"


def test_what_pip_builds_cannot_have_the_node_write_or_read_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nobody's business")
    environments = Environments(tmp_path / "environments")
    asyncio.run(environments.ensure((linking_sdist(tmp_path, tmp_path / "key"),), ignore))
    (path,) = (tmp_path / "environments").iterdir()
    environments.clean()
    assert (tmp_path / "key").read_text() == "nobody's business"
    (path / ".complete").unlink()
    (path / ".complete").symlink_to(tmp_path / "key")
    with pytest.raises(NotFound):
        environments.requirements(path.name)
    (path / ".complete").unlink()
    os.mkfifo(path / ".complete")
    with pytest.raises(NotFound):
        environments.requirements(path.name)


def linking_sdist(place: Path, target: Path) -> str:
    """A source distribution whose build links what the node writes in an environment to
    `target`."""
    return make_sdist(
        place,
        "linking",
        "import os, sys, sysconfig\n"
        "from pathlib import Path\n"
        "packages = Path(sysconfig.get_path('purelib'))\n"
        "packages.joinpath('dsfn-node.pth').unlink()\n"
        f"os.symlink({str(target)!r}, packages / 'dsfn-node.pth')\n"
        f"os.symlink({str(target)!r}, Path(sys.prefix) / '.complete')\n",
    )


def test_a_program_that_fails_gives_the_end_of_its_output() -> None:
    lines: list[str] = []
    source = "print('x' * 100_000); print('last'); raise SystemExit(3)"
    with pytest.raises(CommandFailed) as caught:
        asyncio.run(run_command(sys.executable, "-c", source, on_line=lines.append))
    assert caught.value.output.endswith("\nlast")
    assert [len(line) for line in lines] == [2000, 4]


def test_a_cancelled_program_ends_with_its_children(tmp_path: Path) -> None:
    report = tmp_path / "pids"
    source = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "text = f'{os.getpid()} {child.pid}'\n"
        f"open({str(report)!r} + '.new', 'w').write(text)\n"
        f"os.rename({str(report)!r} + '.new', {str(report)!r})\n"
        "time.sleep(600)\n"
    )

    async def cancel() -> None:
        running = asyncio.create_task(run_command(sys.executable, "-c", source))
        while not report.exists():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(cancel())
    wait_until_gone(*map(int, report.read_text().split()))


def test_a_program_ends_with_the_node_even_when_that_is_killed(tmp_path: Path) -> None:
    report = tmp_path / "pid"
    program = (
        "import os, time\n"
        f"open({str(report)!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"os.rename({str(report)!r} + '.new', {str(report)!r})\n"
        "time.sleep(600)\n"
    )
    node = (
        "import asyncio, sys\n"
        "from dsfn.runtime.deploy.commands import run_command\n"
        f"asyncio.run(run_command(sys.executable, '-c', {program!r}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", node]) as process:
        while not report.exists():
            time.sleep(0.01)
        process.kill()
    wait_until_gone(int(report.read_text()))


def wait_until_gone(*pids: int) -> None:
    """Returns once no process with one of these ids runs; an orphan may stay a zombie."""
    while any(_runs(pid) for pid in pids):
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
