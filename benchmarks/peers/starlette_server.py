"""The limit: one uvicorn process that does nothing but parse, run and answer.

Started as

    uvicorn starlette_server:echo|embed --port PORT --http httptools --loop uvloop --no-access-log
"""

from __future__ import annotations

from functools import cache

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.minilm import Model, load_model


async def _echo(request: Request) -> JSONResponse:
    return JSONResponse({"text": (await request.json())["text"]})


async def _embed(request: Request) -> JSONResponse:
    return JSONResponse(_model()((await request.json())["texts"]))


@cache
def _model() -> Model:
    return load_model()


echo = Starlette(routes=[Route("/predict", _echo, methods=["POST"])])
embed = Starlette(routes=[Route("/predict", _embed, methods=["POST"])])
