"""A folder of mixed files as one searchable index: photos, recordings and notes.

    dsfn deploy functions/library/classify.py
    dsfn deploy functions/library/speech.py
    dsfn deploy functions/library/embed.py
    dsfn deploy examples/album/app.py

The models are the library's. What is here says in words what they found, so that a text can be
compared with it: a photo by its labels, a recording by how much speech is in it, a note by what
it says.
"""

from __future__ import annotations

from pydantic import BaseModel

import dsfn

LIKELY = 0.1
HITS = 3

classify = dsfn.deployed("classify")
detect_speech = dsfn.deployed("detect-speech")
embed = dsfn.deployed("embed")


class Guess(BaseModel):
    """What `classify` says of a photo."""

    label: str
    score: float


class Segment(BaseModel):
    """A stretch of speech, in seconds."""

    start_s: float
    end_s: float


class Speech(BaseModel):
    """What `detect-speech` says of a recording."""

    duration_s: float
    segments: list[Segment]


class Found(BaseModel):
    """What is known of one file: texts, and a vector for each of them."""

    texts: list[str]
    vectors: list[list[float]]


class Entry(BaseModel):
    """One line of the index."""

    file: str
    text: str
    vector: list[float]


class Hit(BaseModel):
    """A file that fits a question; the score is at most 1."""

    file: str
    text: str
    score: float


class Names(BaseModel):
    """What the files are called, in the order in which they are given."""

    photos: list[str]
    recordings: list[str]
    notes: list[str]


@dsfn.function
def photo_texts(guesses: list[Guess]) -> list[str]:
    """A photo in words: what is likely to be on it."""
    likely = [guess.label for guess in guesses if guess.score >= LIKELY]
    return [f"a photo of {' or '.join(likely or [guesses[0].label])}"]


@dsfn.function
def recording_texts(speech: Speech) -> list[str]:
    """A recording in words: whether somebody speaks, and for how long."""
    talk_s = sum(segment.end_s - segment.start_s for segment in speech.segments)
    if not speech.segments:
        return [f"a recording of {speech.duration_s:.0f} seconds of music or noise"]
    times = ", ".join(f"{s.start_s:.1f} to {s.end_s:.1f} s" for s in speech.segments)
    return [f"a recording of somebody speaking for {talk_s:.0f} seconds ({times})"]


@dsfn.function
def note_texts(note: dsfn.Text) -> list[str]:
    """The paragraphs of a note."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in note.split("\n\n")]
    return [paragraph for paragraph in paragraphs if paragraph] or ["an empty note"]


@dsfn.function
def join(
    names: Names, photos: list[Found], recordings: list[Found], notes: list[Found]
) -> list[Entry]:
    """The index: a line for each text of each file."""
    files = zip(
        (*names.photos, *names.recordings, *names.notes),
        (*photos, *recordings, *notes),
        strict=True,
    )
    return [
        Entry(file=file, text=text, vector=vector)
        for file, found in files
        for text, vector in zip(found.texts, found.vectors, strict=True)
    ]


@dsfn.function
def rank(question: list[list[float]], index: list[Entry]) -> list[Hit]:
    """The files that fit a question best, each by the best of its texts."""
    best: dict[str, Hit] = {}
    for entry in index:
        score = sum(a * b for a, b in zip(question[0], entry.vector, strict=True))
        known = best.get(entry.file)
        if known is None or score > known.score:
            best[entry.file] = Hit(file=entry.file, text=entry.text, score=round(score, 3))
    return sorted(best.values(), key=lambda hit: -hit.score)[:HITS]


def about_photo(photo: dsfn.Image) -> dsfn.Json:
    """The steps of one photo."""
    guesses = classify.step(name="photo-labels", retries=3, cache=True)(photo)
    texts = photo_texts(guesses)
    return {"texts": texts, "vectors": embed.step(name="photo-vectors", retries=3)(texts)}


def about_recording(recording: dsfn.Audio) -> dsfn.Json:
    """The steps of one recording."""
    speech = detect_speech.step(name="recording-speech", retries=3, cache=True)(recording)
    texts = recording_texts(speech)
    return {"texts": texts, "vectors": embed.step(name="recording-vectors", retries=3)(texts)}


def about_note(note: dsfn.Text) -> dsfn.Json:
    """The steps of one note."""
    texts = note_texts(note)
    return {"texts": texts, "vectors": embed.step(name="note-vectors", retries=3)(texts)}


@dsfn.workflow(budget="0.01", timeout="5m")
def index_folder(
    names: Names,
    photos: list[dsfn.Image],
    recordings: list[dsfn.Audio],
    notes: list[dsfn.Text],
) -> list[Entry]:
    """Looks at every file of a folder and joins what was found into one index."""
    return join(
        names,
        dsfn.map(about_photo, photos, parallel=8, name="photos"),
        dsfn.map(about_recording, recordings, parallel=8, name="recordings"),
        dsfn.map(about_note, notes, parallel=8, name="notes"),
    )


@dsfn.workflow
def search(question: str, index: list[Entry]) -> list[Hit]:
    """The files of an index that fit a question in words."""
    return rank(embed([question]), index)
