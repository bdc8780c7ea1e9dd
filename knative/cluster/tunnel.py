"""A connection to a port of a pod through the API server, over a WebSocket.

kubernetes' own function for that waits for ever for an API server that says nothing, and keeps to
itself what one has refused; what it is made of does neither.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

# What `PortForward` speaks.
_PROTOCOLS = "v5.channel.k8s.io,v4.channel.k8s.io"


def open_tunnel(api: Any, path: str, port: int, answer_s: float) -> socket.socket:
    """A connection to a port of the pod whose `portforward` is at `path`.

    `answer_s`: how long connecting may take, and each answer until there is a connection. Raises
    `WebSocketException` (a `WebSocketBadStatusException` with what the API server has refused),
    `OSError`, kubernetes' `ConfigException`.
    """
    from kubernetes.stream.ws_client import PortForward, get_websocket_url, websocket_proxycare
    from websocket import WebSocket

    configuration = api.configuration
    headers = {"sec-websocket-protocol": _PROTOCOLS}
    api.update_params_for_auth(headers, [], ["BearerToken"])
    url = get_websocket_url(f"{configuration.host}{path}", [("ports", str(port))])
    # Only now: credentials of a program, certificates among them, are there once it was asked.
    websocket: Any = WebSocket(sslopt=_tls(configuration))
    options: dict[str, Any] = {
        "header": [f"{name}: {value}" for name, value in headers.items()],
        "timeout": answer_s,
    }
    if configuration.proxy or configuration.proxy_headers:
        options = websocket_proxycare(options, configuration, url, headers)
    websocket.connect(url, **options)
    # What comes over it from now on comes when it comes.
    websocket.settimeout(None)
    # Under the library's wrapper is a plain socket.
    connected: socket.socket = PortForward(websocket, [port]).socket(port)._socket
    return connected


def _tls(configuration: Any) -> dict[str, Any]:
    """The same as for requests, in the words of websocket-client."""
    options = {
        "cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE,
        "ca_certs": configuration.ssl_ca_cert,
        "check_hostname": configuration.verify_ssl and configuration.assert_hostname is not False,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return {name: value for name, value in options.items() if value is not None}
