"""LitServe as its documentation has it: a LitAPI, one worker for one model on the CPU.

https://lightning.ai/docs/litserve/features/batching
    python litserve_server.py echo|embed PORT
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator,union-attr"
from __future__ import annotations

import sys

import litserve as ls


class Echo(ls.LitAPI):
    """Gives the text back."""

    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, x: str) -> str:
        return x

    def encode_response(self, output: str) -> dict[str, str]:
        return {"text": output}


class Embed(ls.LitAPI):
    """MiniLM with LitServe's dynamic batching."""

    def setup(self, device: str) -> None:
        from benchmarks.peers.minilm import load_model

        self.model = load_model()

    def decode_request(self, request: dict[str, list[str]]) -> str:
        return request["texts"][0]

    def predict(self, x: list[str]) -> list[list[float]]:
        return self.model(x)

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"embedding": output}


if __name__ == "__main__":
    workload, port = sys.argv[1:]
    api, workers = Echo(), 1
    if workload == "embed":
        api, workers = Embed(max_batch_size=16, batch_timeout=0.002), 2
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=workers)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
