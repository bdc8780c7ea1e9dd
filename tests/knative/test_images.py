"""Images are built by whichever engine is there, and named for what they consist of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wheels import make_wheel

from dsfn.functions.errors import UsageError
from dsfn.knative.images.engine import Destination, Engine, destination, find_engine
from dsfn.knative.images.required import ensure_image
from dsfn.knative.images.wheels import collect, digest_of, leave_out
from dsfn.knative.manifests.images import image_with

# What an engine is asked for goes to the file COMMANDS. It cannot do what BROKEN says.
ENGINE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$COMMANDS"
for each; do
    case $each in --iidfile=*) echo sha256:0123456789abcdef > "${each#--iidfile=}" ;; esac
done
test "$1" != "$BROKEN"
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where engines tell what they are asked for; there are none yet."""
    told = tmp_path / "commands"
    monkeypatch.setenv("COMMANDS", str(told))
    monkeypatch.setenv("BROKEN", "")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return told


def make_engine(commands: Path, name: str) -> None:
    program = commands.parent / name
    program.write_text(ENGINE, encoding="utf-8")
    program.chmod(0o755)


def asked(commands: Path) -> list[str]:
    return commands.read_text(encoding="utf-8").splitlines()


def test_an_image_is_named_for_what_it_consists_of(commands: Path, tmp_path: Path) -> None:
    make_engine(commands, "podman")
    recipe = tmp_path / "Containerfile"
    image = Engine("podman").build("dev.local/app", recipe, tmp_path, {"IMAGE_BASE": "base:1"})
    assert image == "dev.local/app:0123456789ab"
    build, tag = asked(commands)
    assert "--network=none" in build and "--build-arg=IMAGE_BASE=base:1" in build
    assert tag == "podman tag 0123456789abcdef dev.local/app:0123456789ab"


def test_what_pip_cannot_collect_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UsageError, match=r"^pip cannot collect no-such-thing==9\.9: it has said"):
        collect(["no-such-thing==9.9"], tmp_path / "wheels")
    assert "no-such-thing" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("program", "saving"),
    [
        ("podman", "podman save --multi-image-archive --output"),
        ("docker", "docker save --output"),
        ("buildah", "buildah push dev.local/app:1 docker-archive:"),
    ],
)
def test_an_archive_goes_to_the_command_that_takes_one(
    commands: Path, program: str, saving: str
) -> None:
    for name in (program, "kind"):
        make_engine(commands, name)
    to = Destination(load=("kind", "load", "archive"))
    Engine(program).hand_over(("dev.local/app:1",), to)
    saved, loaded = asked(commands)
    assert saved.startswith(saving)
    assert loaded.startswith("kind load archive /") and loaded.endswith(".tar")


def test_images_with_much_in_common_are_in_one_archive(commands: Path) -> None:
    for name in ("podman", "load"):
        make_engine(commands, name)
    Engine("podman").hand_over(("dev.local/a:1", "dev.local/b:1"), Destination(load=("load",)))
    saved, _ = asked(commands)
    assert saved.endswith("dev.local/a:1 dev.local/b:1")


def test_with_a_registry_images_are_pushed(commands: Path) -> None:
    make_engine(commands, "docker")
    to = destination({"IMAGE_REGISTRY": "registry.example/team/"})
    Engine("docker").hand_over((f"{to.registry}/app:1",), to)
    assert asked(commands) == ["docker push registry.example/team/app:1"]


def test_an_engine_that_does_not_work_is_passed_over(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.knative.images.engine.ENGINES", ("absent", "engine"))
    make_engine(commands, "engine")
    assert find_engine() == Engine("engine")
    monkeypatch.setenv("BROKEN", "info")
    with pytest.raises(UsageError, match="podman, buildah or docker"):
        find_engine()


def test_a_build_that_fails_is_one_sentence(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_engine(commands, "podman")
    monkeypatch.setenv("BROKEN", "build")
    with pytest.raises(UsageError, match=r"podman build .* failed \(exit code 1\)\.$"):
        Engine("podman").build("dev.local/app", tmp_path / "Containerfile", tmp_path, {})


@pytest.mark.parametrize(
    "environ", [{}, {"IMAGE_LOAD": "kind load image-archive", "IMAGE_REGISTRY": "a.example"}]
)
def test_where_images_go_must_be_said_once(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"IMAGE_LOAD.* or IMAGE_REGISTRY"):
        destination(environ)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"IMAGE_LOAD": "kind 'load"}, "IMAGE_LOAD is .* and no command: No closing quotation"),
        ({"IMAGE_LOAD": " "}, "IMAGE_LOAD is ' ', and no command"),
        ({"IMAGE_REGISTRY": "https://a.example"}, "IMAGE_REGISTRY is .*, and no registry, such"),
        ({"IMAGE_REGISTRY": "a.example/my team"}, "IMAGE_REGISTRY is .*, and no registry, such"),
    ],
)
def test_where_images_cannot_go_is_told(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        destination(environ)


def test_wheels_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
        (place / "a-1-py3-none-any.whl").write_bytes(b"a")
    assert digest_of(first) == digest_of(second)
    (second / "b-1-py3-none-any.whl").write_bytes(b"b")
    assert digest_of(first) != digest_of(second)
    leave_out(second, first)
    assert os.listdir(second) == ["b-1-py3-none-any.whl"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("functions", "repository"),
    [
        ("dev.local/dsfn-function:1a2b", "dev.local/dsfn-function-with:"),
        ("127.0.0.1:5000/dsfn-function", "127.0.0.1:5000/dsfn-function-with:"),
        (f"r.example/a/f@sha256:{'0' * 64}", "r.example/a/f-with:"),
    ],
)
def test_an_image_with_requirements_has_a_name_that_everybody_knows(
    functions: str, repository: str
) -> None:
    image = image_with(functions, ["b==2", "a"])
    assert image.startswith(repository) and len(image) == len(repository) + 12
    assert image == image_with(functions, ("a", "b==2", "a"))
    assert image != image_with(functions, ["a"]) and image != image_with("other:1", ["b==2", "a"])
    assert image_with(functions, ()) == functions


def ensured(wheel: Path, **environ: str) -> list[str]:
    """What is told while the image of functions that require a wheel is made sure of."""
    told: list[str] = []
    ensure_image("dev.local/f:1", {str(wheel)}, environ, told.append)
    return told


@pytest.fixture
def wheel(commands: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A requirement, and an engine that has no image yet."""
    monkeypatch.setattr("dsfn.knative.images.engine.ENGINES", ("podman",))
    for name in ("podman", "kind"):
        make_engine(commands, name)
    monkeypatch.setenv("BROKEN", "inspect")
    return make_wheel(commands.parent, "greeting", "1.0", "WORD = 'hello'")


def test_an_image_with_requirements_is_built_once(
    wheel: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_with("dev.local/f:1", {str(wheel)})
    (told,) = ensured(wheel, IMAGE_LOAD="kind load")
    assert told == f"Building {image} with {wheel}."
    _, _, build, _, named, saved, loaded = asked(commands)
    assert "--network=none" in build and "--build-arg=IMAGE_BASE=dev.local/f:1" in build
    assert named == f"podman tag dev.local/f-with:0123456789ab {image}"
    assert saved.endswith(image) and loaded.startswith("kind load /")
    commands.unlink()
    monkeypatch.setenv("BROKEN", "")
    assert ensured(wheel) == []  # nor has anything to be said of where it goes
    assert asked(commands) == ["podman info", f"podman inspect --type image {image}"]


def test_an_image_that_got_nowhere_is_built_again(wheel: Path, commands: Path) -> None:
    with pytest.raises(UsageError, match=r"^false .* failed"):
        ensured(wheel, IMAGE_LOAD="false")
    assert asked(commands)[-1] == f"podman rmi {image_with('dev.local/f:1', {str(wheel)})}"


def test_what_lacks_for_an_image_with_requirements_is_one_sentence(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UsageError, match=r"that require .*greeting.* need an image\. Set IMAGE_LOAD"
    ):
        ensured(wheel)
    monkeypatch.setattr("dsfn.knative.images.engine.ENGINES", ())
    with pytest.raises(UsageError, match="Building images needs podman, buildah or docker"):
        ensured(wheel, IMAGE_LOAD="kind load")
