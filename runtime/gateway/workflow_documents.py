"""Workflows as JSON documents."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from dsfn.functions.workflow.document import to_document
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.gateway.admin_documents import subscription_document, workflow_url
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import WorkflowRevision
from dsfn.runtime.workflows.registry import WorkflowRecord

Document = dict[str, Any]


def workflow_summary(request: Request, revision: WorkflowRevision) -> Document:
    """A workflow in a few words."""
    return {
        "name": revision.workflow,
        "revision": revision.id,
        "url": workflow_url(request, revision.workflow),
        "created_at": rfc3339(revision.created_at_us),
        "steps": len(revision.dag.steps),
        "schedule": revision.dag.options.schedule,
        "tags": list(revision.dag.options.tags),
    }


def workflow_document(request: Request, record: WorkflowRecord) -> Document:
    """A workflow in full. `dag` is what `dsfn.functions.workflow.document` writes."""
    services: Services = request.app.state.services
    dag = record.current.dag
    return {
        **workflow_summary(request, record.current),
        "description": dag.description,
        "inputs": to_document(dag)["inputs"],
        "functions": list(dag.functions),
        "subscriptions": [
            subscription_document(one)
            for one in services.workflows.subscriptions()
            if one.function == record.name
        ],
        "dag": to_document(dag),
    }


def history_document(record: WorkflowRecord) -> list[Document]:
    """Revisions, newest first."""
    return [
        {
            "revision": one.id,
            "created_at": rfc3339(one.created_at_us),
            "serving": one.id == record.current.id,
            "steps": len(one.dag.steps),
        }
        for one in record.history
    ]
