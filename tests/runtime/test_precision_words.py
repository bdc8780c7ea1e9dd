from __future__ import annotations

from typing import Any

import pytest

from dsfn.runtime.precision import Precision


def precision(**changes: Any) -> Precision:
    values: dict[str, Any] = {
        "kind": "int8",
        "bytes_before": 4_000_000,
        "bytes_after": 1_200_000,
        "kept_bytes": 200_000,
        "relative_error": None,
        "largest_difference": None,
        "equal_share": None,
        "differs": None,
    }
    return Precision(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"relative_error": 0.00408, "largest_difference": 0.0011711},
            "numbers are off by 0.408 %, each by 0.00117 at most",
        ),
        ({"largest_difference": 0.5}, "numbers are off by 0.5 at most"),
        ({"relative_error": 0.0, "largest_difference": 0.0}, "numbers are off by 0 %, each by 0"),
        ({"equal_share": 0.9996}, "99.96 % of what it answers is equal"),
        ({"largest_difference": 0.5, "equal_share": 1.0}, "at most; 100 % of all else is equal"),
        ({"equal_share": 0.0, "differs": "it has other keys"}, "is equal; it has other keys"),
        ({}, "nothing can be compared"),
    ],
)
def test_the_loss_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in precision(**changes).loss()


def test_the_summary_tells_what_stayed_as_it_was() -> None:
    assert (
        precision()
        .summary()
        .startswith(
            "In int8 its tensors take 1.2 MB instead of 4.0 MB, 200.0 kB of them as they were. With"
        )
    )
    assert "instead of 4.0 MB. With" in precision(kept_bytes=0).summary()


def test_a_document_is_read_back_whatever_else_it_has() -> None:
    document = {**precision().to_document(), "newer": 1}
    assert Precision.from_document(document) == precision()
