"""Runs the peers of `coldstart_gpu`, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.peers.rounds import Round

_START_S = 60.0
_SLOWEST_BYTES_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Peer:
    """`module` is what is run, `way` how far it goes, `variables` how its page has it set, and
    `most` the rounds beyond which it takes too long."""

    name: str
    module: str
    way: str
    variables: Mapping[str, str] = field(default_factory=dict)
    most: int = 10


_LOADERS, _PARKED = "benchmarks.peers.loaders", "benchmarks.peers.parked"
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("safetensors", _LOADERS, "load"),
        Peer("torch-mmap", _LOADERS, "load"),
        Peer("fastsafetensors", _LOADERS, "load"),
        Peer("runai-model-streamer", _LOADERS, "load", {"RUNAI_STREAMER_LOG_LEVEL": "ERROR"}),
        Peer("instanttensor", _LOADERS, "load", {"INSTANTTENSOR_CACHE_BUFFER": "1"}),
        Peer("torch-memory-saver", _PARKED, "resume"),
        Peer("driver-checkpoint", _PARKED, "restore", most=2),
        Peer("fresh-process", "benchmarks.peers.fresh", "process", most=2),
    )
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a peer did with a model: rounds, or why there are none."""

    rounds: Sequence[Round] = ()
    failed: str = ""


def measure(
    peer: Peer, directory: Path, rounds: Mapping[str, int], size_bytes: int
) -> Mapping[str, Found]:
    """Runs a peer with each model for so many rounds; `size_bytes` is that of all their weights.

    A peer that does not run, or dies, or takes too long, has failed with the models to come.
    """
    tasks = [f"{model}:{min(count, peer.most)}" for model, count in rounds.items()]
    timeout_s = _START_S + (1 + max(rounds.values())) * size_bytes / _SLOWEST_BYTES_PER_S
    try:
        done = subprocess.run(
            (sys.executable, "-m", peer.module, peer.name, str(directory), *tasks),
            cwd=ROOT,
            env={**os.environ, **peer.variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        printed, failed = done.stdout, _last_words(done.stderr, done.returncode)
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode() if isinstance(late.stdout, bytes) else ""
        failed = f"no end within {timeout_s:.0f} s"
    found = dict(map(_parsed, (line for line in printed.splitlines() if line.startswith("{"))))
    return {model: found.get(model, Found(failed=failed)) for model in rounds}


def _parsed(line: str) -> tuple[str, Found]:
    document = json.loads(line)
    rounds = [Round(**each) for each in document.get("rounds", ())]
    return document["model"], Found(rounds, document.get("failed", ""))


def _last_words(stderr: str, code: int) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    return f"exit code {code}: {lines[-1][:200] if lines else 'no word'}"
