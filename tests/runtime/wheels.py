"""Wheels made on the spot, for pip to install without a network."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path


def make_wheel(directory: Path, name: str, version: str, source: str) -> Path:
    """A wheel of one module `name` with this source."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": WHEEL,
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
BACKEND = """
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    exec(open("at_build.py").read(), {{}})
    info, wheel = "{name}-1.0.dist-info", "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{{wheel_directory}}/{{wheel}}", "w") as archive:
        archive.writestr("{name}.py", "")
        archive.writestr(f"{{info}}/METADATA", open("PKG-INFO").read())
        archive.writestr(f"{{info}}/WHEEL", open("WHEEL").read())
        archive.writestr(f"{{info}}/RECORD", "")
    return wheel
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def make_sdist(directory: Path, name: str, at_build: str) -> str:
    """A source distribution that has pip run the code `at_build`."""
    path = directory / f"{name}-1.0.tar.gz"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "WHEEL": WHEEL,
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND.format(name=name),
        "at_build.py": at_build,
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{file}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return str(path)
