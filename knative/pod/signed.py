"""Objects of an S3 server by signed requests of the standard library's client.

boto3 takes half a second of a processor before its first request, and whoever waits for a pod's
revision is a caller. Source of the signature:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import field
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlsplit

from dsfn.functions.values import dataclass

TIMEOUT_S = 5.0
_NOTHING = sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Signer:
    """Who asks, and where: `endpoint` is the server's URL."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)

    def get(self, bucket: str, key: str, limit_bytes: int) -> bytes | None:
        """An object, at most `limit_bytes` and one more of it; None where that is not what comes
        of one request."""
        server = urlsplit(self.endpoint)
        path = quote(f"{server.path.rstrip('/')}/{bucket}/{key}")
        kind = HTTPSConnection if server.scheme == "https" else HTTPConnection
        connection = kind(server.netloc, timeout=TIMEOUT_S)
        try:
            headers = self.headers(server.netloc, path, time.gmtime())
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            data = response.read(limit_bytes + 1)
            is_cut = len(data) <= limit_bytes and bool(response.length)
            return data if response.status == 200 and not is_cut else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def headers(self, host: str, path: str, now: time.struct_time) -> dict[str, str]:
        """Those of a GET of `path`, which is quoted, the signature among them."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", now)
        signed = {"host": host, "x-amz-content-sha256": _NOTHING, "x-amz-date": moment}
        if self.token:
            signed["x-amz-security-token"] = self.token
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = f"GET\n{path}\n\n{lines}\n{names}\n{_NOTHING}"
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        digest = sha256(request.encode()).hexdigest()
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = _mac(key, part)
        signature = _mac(key, f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}").hex()
        credential = f"{self.access_key}/{scope}"
        told = f"Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return {**signed, "authorization": f"{_ALGORITHM} {told}"}


def signer(endpoint: str, environ: Mapping[str, str]) -> Signer | None:
    """Of the credentials that these variables are; None where boto3 would look elsewhere."""
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not access or not secret or not (endpoint or region):
        return None
    region = region or "us-east-1"
    server = endpoint or f"https://s3.{region}.amazonaws.com"
    return Signer(server, region, access, secret, environ.get("AWS_SESSION_TOKEN", ""))


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
