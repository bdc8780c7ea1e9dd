"""Functions that plans are made of."""

from __future__ import annotations

from pydantic import BaseModel

import dsfn


class Segment(BaseModel):
    """A stretch of a film."""

    start: int
    end: int


class Speech(BaseModel):
    """The stretches of a film."""

    segments: list[Segment]


@dsfn.function(tags=["speech"])
def detect(film: dsfn.Video) -> Speech:
    """Finds who speaks when."""
    half = len(film.data) // 2
    return Speech(segments=[Segment(start=0, end=half), Segment(start=half, end=2 * half)])


@dsfn.function(tags=["cut"])
def cut(film: dsfn.Video, segment: Segment) -> str:
    """Gives one stretch."""
    return film.data[segment.start : segment.end].decode("latin-1")


@dsfn.function
def gather_lines(texts: list[str]) -> dsfn.Text:
    """Puts texts below each other."""
    return dsfn.Text("\n".join(texts))


@dsfn.function
def transcribe(film: dsfn.Video) -> str:
    """Writes down what is said."""
    return film.data.decode("latin-1")


@dsfn.function(tags=["summary"])
def shorten(text: dsfn.Text) -> dsfn.Text:
    """Gives the gist of it."""
    return dsfn.Text(text[:4])


@dsfn.function
def answer(question: str, context: str) -> dict[str, str]:
    """Answers by a context."""
    return {"answer": f"{question} {context}"}


@dsfn.function
def stamp(record: dict[str, int]) -> dsfn.Image:
    """Makes a picture of a record."""
    return dsfn.Image(b"\x89PNG\r\n\x1a\n" + str(sorted(record.items())).encode())


@dsfn.function
def fail(audio: dsfn.Audio) -> dsfn.Text:
    """Never works."""
    raise ValueError("there is nothing to hear")
