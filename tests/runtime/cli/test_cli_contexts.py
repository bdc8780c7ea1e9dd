"""`dsfn context` and `--target`: one place that says whom commands talk to."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_documents import assert_shape, documented
from cli_runs import Dsfn, serving

from dsfn.runtime.cli import app
from dsfn.runtime.cli.targeting import targeted

OURS = """
import dsfn


@dsfn.function
def ours(word: str = "here") -> str:
    return word
"""


@pytest.fixture
def cli(tmp_path: Path) -> Dsfn:
    """A user without contexts, and without variables that say where to go."""
    variables = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path)}
    return Dsfn(tmp_path, variables)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a node with a function."""
    with serving(tmp_path_factory.mktemp("node"), OURS) as there:
        yield there("status", "--json").json()["url"]


def test_a_context_is_kept_for_its_user_alone(cli: Dsfn) -> None:
    run = cli("context", "set", "far", "https://far.example/", "--key", "secret", "--json")
    assert_shape(run.json(), documented("dsfn context set"))
    assert run.json() == {
        "name": "far",
        "url": "https://far.example",
        "has_key": True,
        "current": False,
    }
    file = cli.directory / "config" / "dsfn" / "contexts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_bytes())["contexts"]["far"]["key"] == "secret"
    listed = cli("context", "list", "--json")
    assert_shape(listed.json(), documented("dsfn context list"))
    assert [each["name"] for each in listed.json()] == ["local", "far"]
    assert "secret" not in cli("context", "list").out + listed.out
    assert_shape(
        cli("context", "remove", "far", "--json").json(), documented("dsfn context remove")
    )
    assert [each["name"] for each in cli("context", "list", "--json").json()] == ["local"]


def test_a_command_goes_to_the_current_context(cli: Dsfn, node: str) -> None:
    assert cli("list").code == 1
    cli("context", "set", "near", node)
    assert_shape(cli("context", "use", "near", "--json").json(), documented("dsfn context use"))
    assert [each["name"] for each in cli("list", "--json").json()] == ["ours"]
    assert_shape(cli("context", "show", "--json").json(), documented("dsfn context show"))
    cli("context", "remove", "near")
    assert cli("context", "show", "--json").json()["name"] == "local"


def test_a_target_is_for_one_command_and_comes_before_all_else(cli: Dsfn, node: str) -> None:
    cli("context", "set", "near", node)
    lost = cli.given(DSFN_URL="http://127.0.0.1:9")
    assert lost("list").code == 1
    assert lost("invoke", "ours", "--target", "near", "--data", '{"word": "hey"}').json() == "hey"
    assert lost("list").code == 1
    assert lost.given(DSFN_TARGET="near")("list").code == 0
    assert lost.given(DSFN_TARGET="near")("list", "--target", "local").code == 1


def test_a_data_directory_that_is_named_comes_before_the_current_context(
    cli: Dsfn, node: str
) -> None:
    cli("context", "set", "near", node)
    cli("context", "use", "near")
    assert cli.given(DSFN_DATA=str(cli.directory / "none"))("list").code == 1


def test_the_key_of_a_context_goes_to_it_alone(cli: Dsfn, node: str) -> None:
    cli("context", "set", "near", node, "--key", "dsfn_wrong")
    assert "API key" in cli("list", "--target", "near").err
    cli("context", "set", "near", node)
    assert cli("list", "--target", "near").code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("list", "--target", "nobody"), "There is no context 'nobody'; there are local.\n"),
        (("context", "use", "nobody"), "There is no context 'nobody'; there are local.\n"),
        (("context", "remove", "local"), "The context 'local' is always there.\n"),
        (
            ("context", "set", "far", "ftp://far"),
            "The URL is 'ftp://far', and not an http(s) URL.\n",
        ),
        (
            ("context", "set", "far", "http://far/?a=1"),
            "The URL is 'http://far/?a=1', and nothing can be below what has a '?' or '#'.\n",
        ),
        (("context", "set", "far", "http://far", "--key", ""), "The API key is empty.\n"),
        (
            ("context", "set", "far", "http://far", "--key", "a\nb"),
            "The API key is no API key: it has characters that none has.\n",
        ),
        *(
            (("context", "set", "far", url), f"{url!r} is not kubernetes://CONTEXT/NAMESPACE.\n")
            for url in (
                "kubernetes://",
                "kubernetes://far",
                "kubernetes://far/a b",
                "kubernetes:///Far",
                f"kubernetes://far/{64 * 'n'}",
            )
        ),
        (
            ("context", "set", "far", "kubernetes"),
            "The URL is 'kubernetes', and not an http(s) URL.\n",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    cli: Dsfn, words: tuple[str, ...], sentence: str
) -> None:
    run = cli(*words)
    assert (run.code, run.err) == (2, sentence)


@pytest.mark.parametrize("name", ["local", "Far", "", "a b"])
def test_a_name_that_is_none_is_refused(cli: Dsfn, name: str) -> None:
    run = cli("context", "set", name, "http://far")
    assert run.code == 2
    assert "cannot be called" in run.err


def test_a_file_that_something_else_wrote_is_one_sentence(cli: Dsfn) -> None:
    file = cli.directory / "config" / "dsfn" / "contexts.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"contexts": []}')
    run = cli("list")
    assert (run.code, run.err) == (2, f"{file} is not what `dsfn context` has written.\n")


def test_every_command_that_talks_to_a_node_takes_a_target() -> None:
    assert app.app.registered_commands
    groups = [app.app, *(each.typer_instance for each in app.app.registered_groups)]
    commands = [each.callback for group in groups if group for each in group.registered_commands]
    made_by = targeted(lambda: None).__code__
    without = {
        f"{each.__module__.rpartition('.')[2]}.{each.__name__}"
        for each in commands
        if each is not None and each.__code__ is not made_by
    }
    assert {name for name in without if not name.startswith(("context.", "platform."))} == {
        "node.up",
        "node.down",
        "init.init",
        "doctor.doctor",
        "rates.check",
        "ledger.verify",
        "ledger.migrate",
        "ledger.rotate_key",
    }
