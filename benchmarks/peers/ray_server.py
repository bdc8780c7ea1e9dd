"""Ray Serve as its documentation has it, with its throughput-optimized flags and HAProxy.

https://docs.ray.io/en/latest/serve/advanced-guides/performance.html
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 RAY_SERVE_ENABLE_HA_PROXY=1 python ray_server.py echo|embed PORT
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000, logging_config={"enable_access_log": False})
class Echo:
    """Gives the text back."""

    async def __call__(self, request: Request) -> dict[str, str]:
        return {"text": (await request.json())["text"]}


@serve.deployment(max_ongoing_requests=1000, logging_config={"enable_access_log": False})
class Embed:
    """MiniLM with Ray Serve's dynamic request batching."""

    def __init__(self) -> None:
        import torch

        from dsfn.functions.library.embed import Embed as Model

        torch.set_num_threads(2)  # Ray sets OMP_NUM_THREADS=1 for a replica
        self.model: Any = Model.target()
        self.model.setup()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def embed(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.model(texts)
        return vectors

    async def __call__(self, request: Request) -> list[float]:
        vector: list[float] = await self.embed((await request.json())["texts"])
        return vector


if __name__ == "__main__":
    workload, port = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    deployment = Echo if workload == "echo" else Embed
    serve.run(deployment.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
