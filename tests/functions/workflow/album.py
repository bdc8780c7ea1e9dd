"""The functions of an album, and the workflow over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import dsfn
from dsfn import Audio, File, Image, Json, Text
from dsfn.functions.interface import Interface


@dsfn.function
def classify(image: Image, top: int = 5) -> list[str]:
    return [image.data.decode()][:top]


@dsfn.function
def has_speech(voice: Audio) -> bool:
    return len(voice.data) > 2


@dsfn.function
async def transcribe(audio: Audio) -> Text:
    return Text(audio.data.decode())


@dsfn.function
class Index:
    def setup(self) -> None:
        self.made = True

    def __call__(self, labels: list[list[str]], text: str) -> Json:
        return {"labels": labels, "text": text, "made": self.made}


@dsfn.function
def thumbnail(image: Image, side: int = 64) -> Image:
    return Image(image.data[:side], "image/png")


@dsfn.function
def keep(file: File) -> int:
    return len(file.data)


@dsfn.function
def count(to: int) -> Iterator[int]:
    yield from range(to)


@dsfn.function
async def words(text: Text) -> AsyncIterator[Text]:
    for word in text.split():
        yield Text(word)


@dsfn.function
def frames(image: Image) -> Iterator[Image]:
    yield image


@dsfn.workflow
def album(photos: list[Image], voice: Audio) -> Json:
    """Labels photos and says what was said."""
    labels = dsfn.map(classify, photos, parallel=8, retries=3)
    text = dsfn.when(has_speech(voice), lambda: transcribe(voice), lambda: "")
    return Index(labels, text)


FUNCTIONS: tuple[Any, ...] = (
    *(classify, has_speech, transcribe, Index, thumbnail, keep, count, words, frames),
)


def interfaces() -> dict[str, Interface]:
    """What the node knows of the functions."""
    return {function.options.name: function.interface() for function in FUNCTIONS}
