"""Workflows as the documents in which they are kept."""

from __future__ import annotations

import json

from dags import dags
from hypothesis import given

from dsfn.functions.workflow.dag import Dag
from dsfn.functions.workflow.document import digest_of, from_document, to_document


@given(dags())
def test_a_workflow_survives_its_document(dag: Dag) -> None:
    again = from_document(json.loads(json.dumps(to_document(dag))))
    assert again == dag
    assert digest_of(again) == digest_of(dag)
