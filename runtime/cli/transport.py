"""HTTP to a node: answers as documents, failures as errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from dsfn.functions.errors import DsfnError, Unavailable
from dsfn.runtime.cli.contexts import require_key
from dsfn.runtime.cli.ways import reached, read_base_url
from dsfn.runtime.left_out import left_out
from dsfn.runtime.problem_reading import problem_error

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 5.0
ADMIN_TIMEOUT_S = 30.0
# The node ends every call, deployment step and log stream by limits of its own; a
# client that gives up earlier would only lose the answer. A day is the longest `timeout`.
CALL_TIMEOUT_S = 86_400.0 + 60.0


class Transport:
    """The connection to one node. Every method raises the `DsfnError` that the node answered
    with, and `Unavailable` when no node answers."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        # httpx's own command line takes as long to import as all else of it.
        with left_out({"httpx._main": ("main",)}):
            import httpx

        self._url, headers = url, dict[str, str]()
        if api_key is not None:
            require_key(api_key)
            headers["Authorization"] = f"Bearer {api_key}"
        self._open_way = ExitStack()
        there = self._open_way.enter_context(reached(url))
        parts = read_base_url(there.url)
        self.prepare = there.prepare
        self._http = httpx.Client(
            base_url=there.url,
            headers=headers,
            timeout=httpx.Timeout(ADMIN_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=httpx.HTTPTransport(uds=there.socket) if there.socket else None,
            # Loading the certificates takes longer than most answers of a local node.
            verify=parts.scheme == "https",
            # A proxy cannot reach this machine's own loopback address.
            trust_env=parts.hostname not in ("127.0.0.1", "localhost", "::1"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._open_way.close()

    def _json(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        with self._open(method, path, params=params, content=content, headers=headers) as response:
            return _document(response.read()) if response.status_code != 204 else None

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ADMIN_TIMEOUT_S,
    ) -> Iterator[httpx.Response]:
        import httpx

        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        with (
            self._sentences(method),
            self._http.stream(
                method, path, params=params, content=content, headers=headers, timeout=timeout
            ) as response,
        ):
            if response.status_code >= 300:
                raise _refusal(response.status_code, response.read())
            yield response

    @contextmanager
    def _sentences(self, method: str) -> Iterator[None]:
        """Turns the transport's errors into sentences."""
        import httpx

        unknown = (
            "" if method == "GET" else " It may have done what it was asked: look, or ask again."
        )

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(
                f"No node answers at {self._url}. Start one with `dsfn up`."
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"The node at {self._url} took too long to answer.{unknown}"
            ) from error
        except httpx.TransportError as error:
            raise Unavailable(
                f"The connection to the node at {self._url} broke before the answer was complete."
                f"{unknown}"
            ) from error


def _refusal(status: int, body: bytes) -> DsfnError:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "detail" in problem:
        return problem_error(problem)
    return DsfnError(f"The server answered with HTTP status {status}; is it a dsfn node?")


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise DsfnError("The server's answer is not JSON; is it a dsfn node?") from None


def json_lines(response: httpx.Response) -> Iterator[Any]:
    """The documents of an answer, as they come."""
    for line in response.iter_lines():
        if line:
            yield _document(line.encode())
