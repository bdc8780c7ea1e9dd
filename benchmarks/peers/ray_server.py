"""Ray Serve as its documentation has it, with its throughput-optimized flags and HAProxy.

https://docs.ray.io/en/latest/serve/advanced-guides/performance.html
    export RAY_SERVE_THROUGHPUT_OPTIMIZED=1 RAY_SERVE_ENABLE_HA_PROXY=1
    python ray_server.py echo|embed PORT
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator,union-attr"
from __future__ import annotations

import signal
import sys

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000, logging_config={"enable_access_log": False})
class Echo:
    """Gives the text back."""

    async def __call__(self, request: Request) -> dict[str, str]:
        return {"text": (await request.json())["text"]}


@serve.deployment(
    num_replicas=2, max_ongoing_requests=1000, logging_config={"enable_access_log": False}
)
class Embed:
    """MiniLM with Ray Serve's dynamic request batching."""

    def __init__(self) -> None:
        from benchmarks.peers.minilm import load_model

        self.model = load_model()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def embed(self, texts: list[str]) -> list[list[float]]:
        return self.model(texts)

    async def __call__(self, request: Request) -> list[float]:
        vector: list[float] = await self.embed((await request.json())["texts"][0])
        return vector


if __name__ == "__main__":
    workload, port = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    deployment = Echo if workload == "echo" else Embed
    serve.run(deployment.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
