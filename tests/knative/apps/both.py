"""One file for a node and for a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

import dsfn
from dsfn import Event, Text


@dsfn.function
def shout(text: Text) -> Text:
    """Text in capitals."""
    return Text(text.upper())


@dsfn.function
def measure(text: str, how: str = "well") -> int:
    """Counts characters, unless it is told to fail."""
    if how == "exit":
        os._exit(3)
    if how == "badly":
        raise ValueError(f"no way to measure {text}")
    return len(text)


@dsfn.function
def count_up(to: int, until: int = -1) -> Iterator[int]:
    """Numbers as server-sent events, up to one that it cannot give."""
    for number in range(to):
        if number == until:
            raise ValueError("no more numbers")
        yield number


@dsfn.function
def repeat(word: str, times: int) -> Text:
    """A long text."""
    return Text(word * times)


@dsfn.on(type="word.said")
@dsfn.function
def hear(event: Event) -> Event:
    """Says how long a word is."""
    word = event.json()["word"]
    return Event.of(type="word.heard", source="/ears", id=f"{event.id}-heard", data=len(word))


@dsfn.on(type="word.swallowed")
@dsfn.function(timeout="20s", retries=1, backoff_policy="linear", backoff_delay="50ms")
def choke(event: Event) -> None:
    """Takes no event."""
    raise ValueError(f"no way to swallow {event.id}")


@dsfn.workflow
def loudness(text: Text) -> int:
    """How long a text is, once it is loud."""
    return measure(shout(text))


@dsfn.workflow
def crowd(word: str, times: int) -> Text:
    """A long text that is loud."""
    return shout(repeat(word, times))
