"""What the books can keep: the limits of every value that is posted, and how they are held to."""

from __future__ import annotations

MAX_TEXT_LENGTH = 1024
# The last microsecond of the year 9999.
MAX_INSTANT_US = 253_402_300_799_999_999
# About nine years: the sums of a month then stay far inside 64 bits.
MAX_DURATION_US = 2**48
MAX_DEVICES = 64
# A thousand million of the currency.
MAX_AMOUNT_NANO = 10**18


def check_text(name: str, value: str) -> None:
    """Raises `ValueError` for what is no text that every database gives back as it was."""
    if type(value) is not str or len(value) > MAX_TEXT_LENGTH or "\0" in value:
        raise ValueError(f"{name} must be text of at most {MAX_TEXT_LENGTH} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} must be valid Unicode") from error


def check_integer(name: str, value: int, limit: int, least: int = 0) -> None:
    """Raises `ValueError` for what is no whole number from `least` to `limit`."""
    # bool is an int to Python and never a time to us.
    if type(value) is not int or not least <= value <= limit:
        raise ValueError(f"{name} must be a whole number from {least} to {limit}, not {value!r}")


def check_texts(
    texts: tuple[str, ...], required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    """Checks fields by their names, `texts` being their values, the required ones first.

    Raises `ValueError` for a field that is no text, and for a required one that is empty.
    """
    for name, text in zip(required, texts, strict=False):
        if not text:
            raise ValueError(f"{name} must not be empty")
    try:
        together = "".join(texts)
    except TypeError:
        together = "\0"
    # Nearly all rows are plain and short: they are looked at once, not field by field.
    if len(together) > MAX_TEXT_LENGTH or "\0" in together or not together.isascii():
        for name, text in zip((*required, *optional), texts, strict=True):
            check_text(name, text)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `ValueError` for what is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(choices)}")
