"""BentoML as its documentation has it: a Service with an API, batchable for the model.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html
    bentoml serve bento_server:Echo|Embed --port PORT
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator,union-attr"
from __future__ import annotations

import bentoml

QUIET = {"access": {"enabled": False}}


@bentoml.service(workers=1, logging=QUIET)
class Echo:
    """Gives the text back."""

    @bentoml.api
    async def predict(self, text: str) -> dict[str, str]:
        return {"text": text}


@bentoml.service(workers=2, logging=QUIET)
class Embed:
    """MiniLM with BentoML's adaptive batching."""

    def __init__(self) -> None:
        from benchmarks.peers.minilm import load_model

        self.model = load_model()

    @bentoml.api(batchable=True, max_batch_size=16)
    def predict(self, texts: list[str]) -> list[list[float]]:
        return self.model(texts)
