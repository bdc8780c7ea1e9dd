"""The PostgreSQL and the S3 server of `make demo-cluster`: on this machine, where pods reach them.

They go on when the process that started them ends, so that a demo can be left up.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.postgres import programs
from benchmarks.processes import free_port

_BUCKET = "dsfn"
_START_S = 30.0


def start(place: Path, host: str) -> dict[str, str]:
    """Starts both; what a platform is told of them, as its environment has it. `host`: this
    machine's address for pods."""
    return {**_start_postgres(place / "postgres", host), **_start_s3(place / "s3", host)}


def stop(place: Path) -> None:
    """Stops those that run, and removes what they kept."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((place / "s3" / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
    if (place / "postgres" / "data").exists():
        _postgres("pg_ctl", place / "postgres", "stop", "-m", "immediate")
    shutil.rmtree(place, ignore_errors=True)


def _start_postgres(place: Path, host: str) -> dict[str, str]:
    place.mkdir(parents=True)
    password, port = secrets.token_hex(16), free_port()
    (place / "password").write_text(password, encoding="utf-8")
    if user := _user():
        place.parent.chmod(0o711)
        for each in (place, place / "password"):
            shutil.chown(each, user)
    _postgres("initdb", place, "-A", "scram-sha-256", "-U", "dsfn", f"--pwfile={place}/password")
    with (place / "data" / "pg_hba.conf").open("a", encoding="utf-8") as rules:
        rules.write("host all all all scram-sha-256\n")
    options = f"-k {place} -p {port} -c listen_addresses={host}"
    _postgres("pg_ctl", place, "start", "-w", "-l", f"{place}/log", "-o", options)
    return {"DSFN_LEDGER": f"postgresql://dsfn:{password}@{host}:{port}/postgres"}


def _postgres(program: str, place: Path, *arguments: str) -> None:
    """Runs one of PostgreSQL's programs, which refuse to be root's. Raises `SystemExit`."""
    tools = programs()
    if tools is None:
        raise SystemExit("The demo needs PostgreSQL: on Debian, apt-get install postgresql.")
    command = (str(tools / program), "-D", str(place / "data"), *arguments)
    user = _user()
    # Its server inherits what it has open: a pipe would not end before it.
    with (place / f"{program}.log").open("wb") as log:
        done = subprocess.run(
            command, cwd=place, stdout=log, stderr=log, user=user, group=user, check=False
        )
    if done.returncode:
        raise SystemExit((place / f"{program}.log").read_text(encoding="utf-8"))


def _user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None


def _start_s3(place: Path, host: str) -> dict[str, str]:
    (place / "buckets" / _BUCKET).mkdir(parents=True)
    program = shutil.which("versitygw")
    if program is None:
        raise SystemExit(
            "The demo needs an S3 server: put `versitygw`"
            " (https://github.com/versity/versitygw/releases) on PATH."
        )
    key, port = secrets.token_hex(16), free_port()
    url = f"http://{host}:{port}"
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(
            (program, "--port", f"{host}:{port}", "posix", str(place / "buckets")),
            env={**os.environ, "ROOT_ACCESS_KEY": "dsfn", "ROOT_SECRET_KEY": key},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (place / "pid").write_text(str(server.pid), encoding="utf-8")
    end_s = time.monotonic() + _START_S
    while not _answers(url):
        if server.poll() is not None or time.monotonic() > end_s:
            raise SystemExit((place / "log").read_text(encoding="utf-8"))
        time.sleep(0.1)
    return {
        "DSFN_STORE": f"s3://{_BUCKET}/demo",
        "AWS_ACCESS_KEY_ID": "dsfn",
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        httpx.get(url, trust_env=False)
        return True
    return False
