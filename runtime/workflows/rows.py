"""Rows of the engine's tables as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dsfn.functions import errors
from dsfn.functions.errors import DsfnError
from dsfn.runtime.workflows.model import Blob, Path, RunRecord, RunState, StepRecord, StepState

Row = Sequence[Any]
_INDEX_BYTES = 4


def packed(path: Path) -> bytes:
    """A path as it is stored: its bytes sort as the items do."""
    return b"".join(index.to_bytes(_INDEX_BYTES) for index in path)


def unpacked(data: bytes) -> Path:
    """Reads back what `packed` gave."""
    starts = range(0, len(data), _INDEX_BYTES)
    return tuple(int.from_bytes(data[at : at + _INDEX_BYTES]) for at in starts)


def error_of(text: str) -> DsfnError:
    """Reads back what `error_text` gave."""
    return errors.from_document(json.loads(text))


def blob_row(blob: Blob | None) -> Row:
    """The columns content_type, size_bytes, body, body_ref, name."""
    if blob is None:
        return (None, None, None, None, None)
    return (blob.content_type, blob.size_bytes, blob.inline, blob.ref, blob.name)


def blob_of(row: Row) -> Blob:
    """Reads back what `blob_row` gave."""
    content_type, size_bytes, inline, ref, name = row
    return Blob(content_type, size_bytes, inline, ref, name)


def run_of(row: Row) -> RunRecord:
    """A row of the queries `get` and `list`."""
    return RunRecord(
        id=row[0],
        workflow=row[1],
        revision=row[2],
        state=RunState(row[3]),
        tenant=row[4],
        caller=row[5],
        started_at_us=row[6],
        finished_at_us=row[7],
        held_us=row[8],
        cost_nano=row[9],
        output=None if row[10] is None else blob_of(row[10:15]),
        error=_document(row[15]),
        retry_of=row[16],
    )


def step_of(row: Row) -> StepRecord:
    """A row of the query `steps`, without its first column."""
    return StepRecord(
        step=row[0],
        path=unpacked(row[1]),
        state=StepState(row[2]),
        function=row[3],
        revision=row[4],
        attempts=row[5],
        started_at_us=row[6],
        finished_at_us=row[7],
        busy_us=row[8],
        held_us=row[9],
        cost_nano=row[10],
        cached=bool(row[11]),
        invocations=tuple(row[12].split()),
        error=_document(row[13]),
    )


def _document(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else json.loads(text)
