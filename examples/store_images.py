"""`make store-images`: images of PostgreSQL and an S3 server, for clusters that reach no registry.

They are built of this machine's programs on IMAGE_BASE, a Debian or the like as new as this one,
and handed over as the platform's are. Their names are on standard output, as a shell reads them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.postgres import programs
from dsfn.functions.errors import UsageError
from dsfn.knative.images.__main__ import BASE
from dsfn.knative.images.engine import LOCAL, Destination, Engine, destination, find_engine

RECIPES = Path(__file__).parent / "stores"
CONTEXTS = Path(".images").absolute()
# The base has its own.
_LIBC = ("libc.so", "libm.so", "libresolv.so", "ld-linux", "libpthread.so", "libdl.so", "librt.so")
# What compiles queries is not needed, and is larger than all else.
_NO_JIT = shutil.ignore_patterns("llvmjit*", "bitcode", "pgxs")
_TIME_ZONES = Path("/usr/share/zoneinfo")


def main() -> None:
    """The program. What keeps it from building is said in a sentence."""
    try:
        to, engine = destination(os.environ), find_engine()
        base = os.environ.get("IMAGE_BASE") or BASE
        images = [_build(engine, to, base, each) for each in ("postgres", "s3")]
        engine.hand_over(images, to)
    except UsageError as error:
        sys.exit(error.message)
    sys.stdout.write("DSFN_POSTGRES_IMAGE={}\nDSFN_S3_IMAGE={}\n".format(*images))


def _build(engine: Engine, to: Destination, base: str, name: str) -> str:
    context = CONTEXTS / name
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(RECIPES / name, context)
    {"postgres": _collect_postgres, "s3": _collect_s3}[name](context)
    image = f"{to.registry or LOCAL}/dsfn-{name}"
    return engine.build(image, context / "Containerfile", context, {"IMAGE_BASE": base})


def _collect_postgres(context: Path) -> None:
    """Puts the programs where they look for what is theirs, and the libraries beside them."""
    tools = programs()
    if tools is None:
        raise UsageError("This needs PostgreSQL: on Debian, apt-get install postgresql.")
    files = context / "files"
    share = Path("/usr/share/postgresql") / tools.parent.name
    for each in (tools, tools.parent / "lib", share, _TIME_ZONES):
        shutil.copytree(each, files / each.relative_to("/"), ignore=_NO_JIT)
    libraries = files / "opt/postgresql"
    libraries.mkdir(parents=True)
    for program in ("postgres", "initdb"):
        for library in _libraries_of(tools / program):
            shutil.copy(library, libraries / library.name)


def _libraries_of(program: Path) -> list[Path]:
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    words = [line.partition("=>")[2].split() for line in told.splitlines()]
    found = [Path(each[0]) for each in words if each and each[0].startswith("/")]
    return [each for each in found if not each.name.startswith(_LIBC)]


def _collect_s3(context: Path) -> None:
    program = shutil.which("versitygw")
    if program is None:
        raise UsageError(
            "This needs versitygw (https://github.com/versity/versitygw/releases) on PATH."
        )
    shutil.copy(program, context / "versitygw")


if __name__ == "__main__":
    main()
