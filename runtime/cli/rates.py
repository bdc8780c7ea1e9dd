"""`dsfn rates`: what usage costs, and from when on."""

from __future__ import annotations

import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from dsfn.billing.money import minor_text, percent
from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.documents import RateCardDocument, RateDocument
from dsfn.runtime.cli.options import JsonOption, connect, given_path
from dsfn.runtime.cli.output import (
    Column,
    exact_local_time,
    local_time,
    print_fields,
    print_json,
    print_table,
    say,
)

_PICO_EXPONENT = 12
_SHORT = 12
# A card with every limit used up is smaller; so is what a node takes.
_MAX_FILE_BYTES = 64 << 10

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A rate card, in TOML.", show_default=False)
]


def list_rates(json_output: JsonOption = False) -> None:
    """List the rate cards in the order in which they were set."""
    with connect() as client:
        cards = client.rates()
    if json_output:
        print_json({"rates": cards})
        return
    print_table(
        (
            Column("card", right=True),
            Column("from"),
            Column("until"),
            Column("set"),
            Column("by"),
            Column("digest"),
        ),
        [
            (
                str(card["number"]),
                _from(card["effective_from"]),
                exact_local_time(card["effective_until"]) if card["effective_until"] else "",
                local_time(card["set_at"]),
                card["source"],
                card["sha256"][:_SHORT],
            )
            for card in cards
        ],
        empty="There are no rate cards.",
    )


def show(
    number: Annotated[
        int | None,
        typer.Argument(metavar="NUMBER", help="The card in force now without it.", min=1),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show what a rate card says."""
    with connect() as client:
        if number is None:
            number = next(card["number"] for card in client.rates() if card["in_force"])
        card = client.rate_card(number)
    if json_output:
        print_json(card)
        return
    print_fields(
        (
            ("card", str(card["number"])),
            ("from", _from(card["effective_from"])),
            ("set", f"{local_time(card['set_at'])} by {card['source']}"),
            ("digest", card["sha256"]),
        )
    )
    _print_card(card["card"])


def set_rates(file: FileArgument, json_output: JsonOption = False) -> None:
    """Add a rate card, which holds from its moment on, or from now."""
    from dsfn.billing.rates import read_card

    document = _read(file)
    read_card(document)
    with connect() as client:
        card = client.set_rates(document)
    if json_output:
        print_json(card)
    else:
        say(f"Rate card {card['number']} is in force from {_from(card['effective_from'])} on.")


def check(file: FileArgument, json_output: JsonOption = False) -> None:
    """Read a rate card and say what it means; no node is asked."""
    from dsfn.billing.rates import canonical_text, card_document, digest_of, read_card

    card = read_card(_read(file))
    if json_output:
        print_json({"sha256": digest_of(canonical_text(card)), "card": card_document(card)})
    else:
        say(f"{file} is a rate card.")
        _print_card(cast(RateCardDocument, card_document(card)))


def _read(file: str) -> dict[str, Any]:
    path: Path = given_path(file)
    try:
        content = path.read_bytes()
        if len(content) > _MAX_FILE_BYTES:
            raise UsageError(f"{file} is larger than {_MAX_FILE_BYTES} bytes.")
        document = tomllib.loads(content.decode())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from error
    return {name: _jsonable(value) for name, value in document.items()}


def _jsonable(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date | time) else value


def _print_card(card: RateCardDocument) -> None:
    currency = card["currency"]
    rates = {**card["devices"], "every other": card["default"]}
    say()
    print_table(
        (
            Column("device"),
            Column(f"{currency} a second", right=True),
            Column("of time"),
            Column(f"{currency} a request", right=True),
            Column("more"),
        ),
        [
            (
                name,
                minor_text(rate["pico_per_second"], _PICO_EXPONENT),
                rate["basis"],
                minor_text(rate["pico_per_request"], _PICO_EXPONENT),
                ", ".join(_more(rate)),
            )
            for name, rate in rates.items()
        ],
        empty="",
    )
    for line in _terms(card):
        say(line)


def _more(rate: RateDocument) -> list[str]:
    words = []
    if rate["increment_us"] > 1:
        words.append(f"by {rate['increment_us']} µs")
    if rate["free_us"]:
        words.append(f"{_seconds(rate['free_us'])} free")
    if rate["free_requests"]:
        words.append(f"{rate['free_requests']} requests free")
    if rate["tiers"]:
        words.append(f"{len(rate['tiers'])} {rate['tiering']} tiers")
    return words


def _terms(card: RateCardDocument) -> list[str]:
    lines = [f"Discount of {name}: {percent(p)}" for name, p in card["discounts"].items()]
    if card["tax"]:
        lines.append(f"{card['tax_name']}: {percent(card['tax'])}")
    lines += [f"{card['tax_name']} of {name}: {percent(p)}" for name, p in card["taxes"].items()]
    if card["minimum_minor"]:
        least = minor_text(card["minimum_minor"], card["exponent"])
        lines.append(f"The least for a month: {least} {card['currency']}")
    return lines


def _seconds(time_us: int) -> str:
    return f"{minor_text(time_us, 6).rstrip('0').rstrip('.')} s"


def _from(moment: str) -> str:
    return "the beginning" if moment == "1970-01-01T00:00:00Z" else exact_local_time(moment)
