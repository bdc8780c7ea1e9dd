"""The embeddings are those of sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsfn.functions.library.embed import BATCH, Embed

Ready = Callable[[Any], Any]
# Made by sentence-transformers' own `encode`, one text at a time.
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "embeddings.json").read_text("utf-8"))
TEXTS: list[str] = GOLDEN["texts"]


def golden() -> NDArray[np.float64]:
    return np.array(GOLDEN["embeddings"])


def check(vectors: list[list[float]]) -> None:
    ours = np.array(vectors)
    assert np.abs(ours - golden()).max() < 1e-5
    assert ((ours * golden()).sum(axis=1) > 0.9999).all()


def test_one_text_at_a_time_gives_the_reference(ready: Ready) -> None:
    check([ready(Embed)([text])[0] for text in TEXTS])


def test_texts_of_many_lengths_at_once_give_the_reference(ready: Ready) -> None:
    check(ready(Embed)(TEXTS))


def test_answers_come_in_the_order_of_the_texts_over_several_batches(ready: Ready) -> None:
    many = (TEXTS * (BATCH // len(TEXTS) + 1))[: BATCH + 3]
    vectors = np.array(ready(Embed)(many))
    wanted = golden()[[TEXTS.index(text) for text in many]]
    assert np.abs(vectors - wanted).max() < 1e-5


def test_no_texts_give_no_vectors(ready: Ready) -> None:
    assert ready(Embed)([]) == []


def test_vectors_have_length_one(ready: Ready) -> None:
    vector = np.array(ready(Embed)(["a text"])[0])
    assert vector.shape == (384,)
    assert abs(float(vector @ vector) - 1) < 1e-6


def test_similar_texts_are_nearer_than_others(ready: Ready) -> None:
    texts = ["A cat sleeps on the sofa.", "The kitten naps on a couch.", "Rates rose in March."]
    cat, kitten, rates = np.array(ready(Embed)(texts))
    assert cat @ kitten > 0.5 > cat @ rates


def test_a_restored_function_gives_the_same_bits(ready: Ready, restored: Ready) -> None:
    assert restored(Embed)(TEXTS) == ready(Embed)(TEXTS)
