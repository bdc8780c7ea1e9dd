"""What functions are about: the words of a wish against tags, names and descriptions."""

from __future__ import annotations

import re

from dsfn.functions.workflow.planning.model import Offer

TAG, NAME, DESCRIPTION = 3, 2, 1
MAX_WORDS = 8

_WORD = re.compile(r"[^\W_]+")
_EMPTY = frozenset("a an and as at by for from in into it of on or that the this to with".split())


def words_of(wish: str) -> tuple[str, ...]:
    """The words of a wish that say something, in lower case, each once, the first eight."""
    found = dict.fromkeys(w for w in _WORD.findall(wish.lower()) if w not in _EMPTY)
    return tuple(found)[:MAX_WORDS]


def weights_of(offer: Offer, wish: tuple[str, ...]) -> tuple[int, ...]:
    """How well a function fits each word: 3 by a tag, 2 by its name, 1 by its description."""
    places = (
        (TAG, _WORD.findall(" ".join(offer.tags).lower())),
        (NAME, _WORD.findall(offer.name)),
        (DESCRIPTION, _WORD.findall(offer.interface.description.lower())),
    )
    return tuple(
        max((weight for weight, found in places if any(alike(word, f) for f in found)), default=0)
        for word in wish
    )


def alike(one: str, other: str) -> bool:
    """Whether two words are forms of one: equal, the one with an ending (label, labels), or
    apart by their endings alone (summary, summarise)."""
    short, long = sorted((one, other), key=len)
    common = next((i for i, c in enumerate(short) if c != long[i]), len(short))
    if common == len(short):
        return short == long or common >= 4
    return common >= 6 and len(short) - common <= 2
