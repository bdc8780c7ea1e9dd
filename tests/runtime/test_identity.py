from __future__ import annotations

from pathlib import Path

from revisions import make_revision

from dsfn.functions.options import Options
from dsfn.runtime.deploy.identity import Platform, platform_of, revision_id


def identity(on: Platform, options: Options | None = None) -> str:
    revision = make_revision(1)
    return revision_id(
        revision.bundle_digest,
        revision.entry,
        options or revision.options,
        revision.interface,
        on,
    )


def installed(directory: Path, name: str, version: str) -> list[str]:
    """A `sys.path` on which this is installed."""
    metadata = directory / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return [str(directory)]


def test_the_same_on_the_same_platform_is_the_same_revision(tmp_path: Path) -> None:
    path = installed(tmp_path, "Some_Library", "1.0")
    assert platform_of(path, "cpu").libraries == {"some-library": "1.0"}
    assert identity(platform_of(path, "cpu")) == identity(platform_of(path, "cpu"))


def test_other_libraries_or_another_device_make_another_revision(tmp_path: Path) -> None:
    old = installed(tmp_path / "old", "torch", "2.10")
    new = installed(tmp_path / "new", "torch", "2.11")
    more = installed(tmp_path / "more", "numpy", "2.0")
    platforms = [
        platform_of(old, "cpu"),
        platform_of(new, "cpu"),
        platform_of([*old, *more], "cpu"),
        platform_of(old, "NVIDIA H100 80GB HBM3"),
    ]
    assert len({identity(each) for each in platforms}) == 4
    assert identity(platform_of([*old, *new], "cpu")) == identity(platforms[0]), "the first counts"


def test_other_options_make_another_revision() -> None:
    here = platform_of([], "cpu")
    assert identity(here) != identity(here, Options(name="echo", concurrency=2))


def test_what_is_half_uninstalled_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "gone-1.0.dist-info").mkdir()
    assert platform_of([str(tmp_path)], "cpu").libraries == {}
