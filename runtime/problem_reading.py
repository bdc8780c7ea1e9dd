"""Problem documents as the errors that they were made of.

Beside `dsfn.runtime.problems`, which clients need not load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsfn.functions.errors import DsfnError, from_document


def problem_error(problem: Mapping[str, Any]) -> DsfnError:
    """A problem document as its own class of error, its extension members as fields."""
    slug = str(problem.get("type", "")).rpartition("/")[2]
    known = ("type", "title", "status", "detail")
    return from_document(
        {
            "error": "".join(word.capitalize() for word in slug.split("-")),
            "message": problem.get("detail", "The node gave no reason."),
            "fields": {k: v for k, v in problem.items() if k not in known},
        }
    )
