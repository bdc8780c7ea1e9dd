"""The admin API of snapshots: what there is and where, copies, pins, checks, and timelines.

NAME in a path is a function, a revision, or a digest's first digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.functions.errors import (
    CorruptSnapshot,
    InvalidInput,
    NotFound,
    SnapshotError,
    StoreUnavailable,
)
from dsfn.runtime.gateway.progress import progress_response
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.gateway.snapshot_documents import (
    cold_call_document,
    listing_document,
    prefetched_document,
    pruned_document,
    snapshot_document,
    unreadable_document,
    verified_document,
    verified_replicas_document,
)
from dsfn.runtime.services import Services
from dsfn.runtime.tiers.catalogue import Target
from dsfn.runtime.tiers.copies import Direction
from dsfn.snapshots.transfer import Transfer

MAX_PREFETCHED = 1000


async def list_snapshots(request: Request) -> Response:
    """GET /snapshots."""
    services: Services = request.app.state.services
    return JSONResponse(listing_document(services, await services.catalogue.listing()))


async def show(request: Request) -> Response:
    """GET /snapshots/{name}."""
    services, target = await _target(request)
    try:
        manifest = await services.catalogue.manifest(target.digest)
    except (CorruptSnapshot, NotFound, StoreUnavailable) as error:
        if not target.revisions and isinstance(error, NotFound):
            raise
        return JSONResponse(unreadable_document(services, target, error.message))
    return JSONResponse(snapshot_document(services, target, manifest))


async def verify(request: Request) -> Response:
    """POST /snapshots/{name}/verify: every file's digest, and a trial restore, which ends a
    quarantine when it works."""
    services, target = await _target(request)
    _require_on_disk(services, target)
    return progress_response(_verify(services, target), tuple)


async def push(request: Request) -> Response:
    """POST /snapshots/{name}/push: to the store."""
    services, target = await _target(request)
    _require_on_disk(services, target)

    async def work() -> dict[str, Any]:
        await services.tiers.push(target.digest)
        return await _copied(services, target)

    return progress_response(work(), lambda: _under_way(services, "push", target.digest))


async def pull(request: Request) -> Response:
    """POST /snapshots/{name}/pull: from the store, unless every byte is here. One that was
    quarantined is verified then."""
    services, target = await _target(request)

    async def work() -> dict[str, Any]:
        await services.tiers.bring(target.digest)
        reinstated = []
        if any(r.snapshot and r.snapshot.quarantined for r in target.revisions):
            found = await _verify(services, target)
            reinstated, reason = found["reinstated"], found["reason"]
            if reason is not None:
                raise SnapshotError(f"The copy is here, and stays quarantined. {reason}")
        return await _copied(services, target, reinstated)

    return progress_response(work(), lambda: _under_way(services, "pull", target.digest))


async def pin(request: Request) -> Response:
    """POST /snapshots/{name}/pin."""
    return await _pinned(request, True)


async def unpin(request: Request) -> Response:
    """POST /snapshots/{name}/unpin."""
    return await _pinned(request, False)


async def prefetch(request: Request) -> Response:
    """POST /snapshots/prefetch {"functions": [name]}: as far up as this node can bring them."""
    services: Services = request.app.state.services
    names = (await read_object(request, services.settings.limits)).get("functions")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput("Name the functions, in a list of texts.", field="functions")
    if len(names) > MAX_PREFETCHED:
        raise InvalidInput(f"Name at most {MAX_PREFETCHED} functions.", field="functions")
    revisions = [services.registry.function(name).current for name in dict.fromkeys(names)]
    digests = [r.snapshot.digest for r in revisions if r.snapshot is not None]

    async def work() -> dict[str, Any]:
        found = await services.tiers.prefetch(revisions)
        return {"functions": [prefetched_document(services, each) for each in found]}

    return progress_response(work(), lambda: _under_way(services, "pull", *digests))


async def prune(request: Request) -> Response:
    """POST /snapshots/prune {"dry_run": bool}: what nothing needs and what is over the limit."""
    services: Services = request.app.state.services
    dry_run = (await read_object(request, services.settings.limits)).get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise InvalidInput("dry_run is true or false.", field="dry_run")
    return JSONResponse(pruned_document(await services.tiers.pruner.prune(dry_run), dry_run))


async def timeline(request: Request) -> Response:
    """GET /functions/{name}/timeline: its last cold calls, newest first."""
    services: Services = request.app.state.services
    name = services.registry.function(request.path_params["name"]).name
    calls = [cold_call_document(call) for call in services.timelines.of(name)]
    return JSONResponse({"function": name, "calls": calls})


async def verify_replicas(request: Request) -> Response:
    """POST /functions/{name}/verify: the weights that its replicas have in memory."""
    services: Services = request.app.state.services
    name = services.registry.function(request.path_params["name"]).name

    async def work() -> dict[str, Any]:
        return verified_replicas_document(name, await services.serving.verify(name))

    return progress_response(work(), tuple)


async def _target(request: Request) -> tuple[Services, Target]:
    services: Services = request.app.state.services
    return services, await services.catalogue.resolve(request.path_params["name"])


def _require_on_disk(services: Services, target: Target) -> None:
    if not services.tiers.disk.files.has(target.digest):
        raise NotFound(
            f"Snapshot {target.digest[:12]} is not on this node's disk. If the store has it,"
            f" `dsfn snapshot pull {target.digest[:12]}` brings it.",
            kind="snapshot",
            name=target.digest,
        )


async def _verify(services: Services, target: Target) -> dict[str, Any]:
    """Bytes first: what is damaged is not restored."""
    digest = target.digest
    try:
        files = await services.tiers.check(digest)
    except CorruptSnapshot as error:
        return verified_document(digest, (), None, error.message)
    bad = [file.name for file in files if not file.sound]
    if bad:
        reason = f"The bytes of {', '.join(bad)} differ from their digest."
        return verified_document(digest, files, None, reason)
    if not target.revisions:
        return verified_document(digest, files, None, None)
    why_not = await services.pipeline.try_restore(target.revisions[0])
    reinstated = services.registry.reinstate(digest) if why_not is None else []
    return verified_document(digest, files, why_not is None, why_not, reinstated)


async def _pinned(request: Request, pinned: bool) -> Response:
    services, target = await _target(request)
    if not target.revisions:
        _require_on_disk(services, target)
    services.tiers.pin(target.digest, pinned)
    return JSONResponse({"digest": target.digest, "pinned": pinned})


async def _copied(
    services: Services, target: Target, reinstated: Sequence[str] = ()
) -> dict[str, Any]:
    manifest = await services.catalogue.manifest(target.digest)
    return {
        "digest": target.digest,
        "bytes": manifest.size_bytes,
        "tiers": list(services.catalogue.where(target.digest)),
        "reinstated": list(reinstated),
    }


def _under_way(services: Services, direction: Direction, *digests: str) -> Iterator[Transfer]:
    copies = services.tiers.copies
    if copies is not None:
        found = (copies.progress(direction, digest) for digest in digests)
        yield from (copy for copy in found if copy is not None)


ROUTES = [
    Route("/snapshots", list_snapshots, methods=["GET"]),
    Route("/snapshots/prefetch", prefetch, methods=["POST"]),
    Route("/snapshots/prune", prune, methods=["POST"]),
    Route("/snapshots/{name}", show, methods=["GET"]),
    Route("/snapshots/{name}/verify", verify, methods=["POST"]),
    Route("/snapshots/{name}/push", push, methods=["POST"]),
    Route("/snapshots/{name}/pull", pull, methods=["POST"]),
    Route("/snapshots/{name}/pin", pin, methods=["POST"]),
    Route("/snapshots/{name}/unpin", unpin, methods=["POST"]),
    Route("/functions/{name}/timeline", timeline, methods=["GET"]),
    Route("/functions/{name}/verify", verify_replicas, methods=["POST"]),
]
