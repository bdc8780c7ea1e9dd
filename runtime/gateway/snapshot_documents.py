"""The documents in which the admin API shows snapshots and what is done with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dsfn.runtime.clock import rfc3339
from dsfn.runtime.model import Revision
from dsfn.runtime.replicas.verifying import VerifiedReplica
from dsfn.runtime.services import Services
from dsfn.runtime.tiers.catalogue import Listing, Row, Target
from dsfn.runtime.tiers.eviction import Pruned, reload_s
from dsfn.runtime.tiers.tiers import Prefetched
from dsfn.runtime.timelines import ColdCall
from dsfn.snapshots.format import Manifest
from dsfn.snapshots.sealed import CheckedFile

MAX_LARGEST = 10


def listing_document(services: Services, listing: Listing) -> dict[str, Any]:
    """Every snapshot in a line, and the places where they are kept."""
    settings = services.settings.snapshots
    return {
        "snapshots": [row_document(row) for row in listing.rows],
        "disk": {"used_bytes": listing.disk_bytes, "max_bytes": settings.max_disk_bytes or None},
        "store": {"url": settings.store, "fault": listing.store_fault} if settings.store else None,
    }


def row_document(row: Row) -> dict[str, Any]:
    """A snapshot in a line."""
    used_at_us = row.record.used_at_us
    return {
        "digest": row.digest,
        "bytes": row.bytes,
        "device": row.device or None,
        "functions": sorted({revision.function for revision in row.revisions}),
        "revisions": [revision.id for revision in row.revisions],
        "tiers": list(row.tiers),
        "pinned": row.record.pinned,
        "quarantine": _quarantine(row.revisions),
        "used_at": rfc3339(used_at_us) if used_at_us is not None else None,
    }


def snapshot_document(services: Services, target: Target, manifest: Manifest) -> dict[str, Any]:
    """All about a snapshot."""
    known = _known_document(services, target, manifest.size_bytes, manifest.device_class)
    return {**known, "fault": None, **_manifest_document(manifest)}


def unreadable_document(services: Services, target: Target, fault: str) -> dict[str, Any]:
    """What is known of a snapshot that cannot be looked into now."""
    size_bytes = max((r.snapshot.bytes for r in target.revisions if r.snapshot), default=0)
    return {**_known_document(services, target, size_bytes, ""), "fault": fault}


def _known_document(
    services: Services, target: Target, size_bytes: int, device: str
) -> dict[str, Any]:
    """Where it is and how it has fared."""
    catalogue, tiers, digest = services.catalogue, services.tiers, target.digest
    record, where = tiers.records.of(digest), catalogue.where(digest)
    reason = tiers.pusher.reason(digest) or tiers.fault(digest)
    return {
        **row_document(Row(digest, size_bytes, device, target.revisions, where, record)),
        "store": {"state": catalogue.store_state(digest), "reason": reason},
        "reload_s": round(reload_s(record, size_bytes), 3),
    }


def verified_document(
    digest: str,
    files: Iterable[CheckedFile],
    restored: bool | None,
    reason: str | None,
    reinstated: Sequence[str] = (),
) -> dict[str, Any]:
    """What a verification found, and whose quarantine that ends."""
    return {
        "digest": digest,
        "sound": reason is None,
        "files": [{"name": f.name, "bytes": f.size_bytes, "sound": f.sound} for f in files],
        "restored": restored,
        "reason": reason,
        "reinstated": list(reinstated),
    }


def verified_replicas_document(
    function: str, replicas: Iterable[VerifiedReplica]
) -> dict[str, Any]:
    """What a verification found in memory."""
    return {
        "function": function,
        "replicas": [
            {
                "pid": replica.pid,
                "revision": replica.revision,
                "state": replica.state,
                "slabs": [{"device": s.device, "intact": s.is_intact} for s in replica.slabs],
                "intact": replica.is_intact,
                "check_us": replica.check_us,
                "reason": replica.reason,
            }
            for replica in replicas
        ],
    }


def prefetched_document(services: Services, found: Prefetched) -> dict[str, Any]:
    """What came of a prefetch of one function."""
    snapshot = found.revision.snapshot
    return {
        "function": found.revision.function,
        "revision": found.revision.id,
        "digest": snapshot.digest if snapshot is not None else None,
        "tiers": list(services.catalogue.where(snapshot.digest)) if snapshot is not None else [],
        "reason": found.reason,
    }


def pruned_document(pruned: Iterable[Pruned], dry_run: bool) -> dict[str, Any]:
    """What left the disk, or would."""
    gone = list(pruned)
    return {
        "dry_run": dry_run,
        "freed_bytes": sum(each.bytes for each in gone),
        "pruned": [{"digest": e.digest, "bytes": e.bytes, "reason": e.reason} for e in gone],
    }


def cold_call_document(call: ColdCall) -> dict[str, Any]:
    """Where the time of a cold call went."""
    return {
        "id": call.call_id,
        "revision": call.revision,
        "device_class": call.device_class,
        "at": rfc3339(call.at_us),
        "phases_us": dict(call.phases_us),
    }


def _quarantine(revisions: Iterable[Revision]) -> str | None:
    """Why no replica starts from a snapshot any more. It may have been made anew, byte for byte,
    by a revision that does."""
    known = [(r.snapshot.quarantined, r.snapshot_reason) for r in revisions if r.snapshot]
    shut = known and all(quarantined for quarantined, _ in known)
    return known[0][1] if shut else None


def _manifest_document(manifest: Manifest) -> dict[str, Any]:
    """The manifest without its tables."""
    golden = manifest.golden
    largest = sorted(manifest.storages, key=lambda s: -s.size_bytes)[:MAX_LARGEST]
    return {
        "format_version": manifest.format_version,
        "python": manifest.python,
        "torch": manifest.torch,
        "code": manifest.code,
        "options": manifest.options,
        "libraries": dict(manifest.libraries),
        "files": [
            {"name": name, "bytes": sealed.size_bytes, "digest": sealed.digest}
            for name, sealed in manifest.files().items()
        ],
        "slabs": [
            {
                "device": slab.device,
                "file": slab.file,
                "bytes": slab.size_bytes,
                "storages": sum(s.slab == number for s in manifest.storages),
                "first_use": slab.first_use,
            }
            for number, slab in enumerate(manifest.slabs)
        ],
        "tensors": len(manifest.tensors),
        "largest": [
            {"name": s.name, "dtype": s.dtype, "shape": list(s.shape), "bytes": s.size_bytes}
            for s in largest
        ],
        "golden": golden and {"content_type": golden.content_type, "bytes": golden.size_bytes},
    }
