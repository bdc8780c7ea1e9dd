"""Where a ledger's database is: a URL that is looked at before anybody connects to it."""

from __future__ import annotations

from dataclasses import field
from urllib.parse import parse_qs, unquote, urlsplit

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where a ledger's database is: "postgresql://USER@HOST:PORT/DATABASE"."""

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        """Raises `UsageError` for what is no such URL."""
        require_address(self.url)

    @property
    def is_of_this_machine_alone(self) -> bool:
        """Whether it is reached by a Unix socket, as where no host is named."""
        parts = urlsplit(self.url)
        asked = parse_qs(parts.query)
        # As libpq has it: these come before what is in front of the path.
        hosts = asked.get("hostaddr") or asked.get("host") or [parts.hostname or ""]
        return any(
            unquote(host).startswith(("/", "@")) or not host for host in hosts[-1].split(",")
        )

    def __str__(self) -> str:
        """The address without what may be secret."""
        parts = urlsplit(self.url)
        _, _, host = parts.netloc.rpartition("@")
        return f"{unquote(parts.path).strip('/')} at {unquote(host) or 'this machine'}"


def require_address(url: str, name: str = "The ledger's address") -> None:
    """Raises `UsageError` for what is no address of a database; `name`: what is to be one."""
    if not _is_address(url):
        raise no_address(name)


def no_address(name: str = "The ledger's address") -> UsageError:
    """Of what is no address."""
    return UsageError(
        f"{name} is not postgresql://USER@HOST:PORT/DATABASE; what it is, is not shown, as there"
        " may be a password in it."
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_port = parts.port != 0
    except ValueError:
        return False
    is_named = bool(parts.path.strip("/")) or "dbname" in parse_qs(parts.query)
    return parts.scheme in ("postgresql", "postgres") and is_port and is_named
