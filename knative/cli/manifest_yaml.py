"""Manifests as YAML that every reader takes for what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from dsfn.knative.manifests.words import Manifest

# What nobody takes for a number, a boolean or nothing: kubectl reads YAML 1.1, in which `y` is true
# and `1e3` is a number. What it has in words, such as `off`, PyYAML quotes itself.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./:@-]{2,}")


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML tells no types
    pass


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def manifest_yaml(manifests: Iterable[Manifest]) -> str:
    """A document for each of them."""
    found: str = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False)
    return found
