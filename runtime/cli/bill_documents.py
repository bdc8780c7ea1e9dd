"""The shapes of the JSON documents about bills and invoices."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class BillLineDocument(TypedDict):
    """One line of a bill; `revision`, `workflow`, `run`, `step`, `day` and `key` only where it is
    by them. What is not about one function or device class has null there.

    `kind`: "usage", "correction", "allowance", "tier", "discount", "minimum", "tax" or "credit".
    `card`: the number of the rate card. `amount_minor` is what is due, in the currency's minor
    units; `amount_nano` the same less rounded. `service_month`: of a correction.
    """

    kind: str
    tenant: str
    function: str | None
    revision: NotRequired[str | None]
    workflow: NotRequired[str | None]
    run: NotRequired[str | None]
    step: NotRequired[str | None]
    day: NotRequired[str | None]
    key: NotRequired[str | None]
    device_class: str | None
    card: int
    requests: int
    quantity_us: int
    busy_us: int
    held_us: int
    restore_us: int
    amount_nano: int
    amount_minor: int
    note: str
    service_month: str | None


class DeviceTimeDocument(TypedDict):
    """A device class's time in a month: held = requests + restore + idle."""

    device_class: str
    held_us: int
    requests_us: int
    restore_us: int
    idle_us: int


class StatementDocument(TypedDict):
    """`dsfn bill report`. `exponent`: decimals of the currency's minor unit. `month` is null where
    the time from `start` to `end` is none, `tenant` for all tenants, `expected_minor` where there
    is nothing to expect."""

    month: str | None
    start: str
    end: str
    by: str
    tenant: str | None
    status: str
    currency: str
    exponent: int
    total_minor: int
    expected_minor: int | None
    lines: list[BillLineDocument]
    devices: list[DeviceTimeDocument]


class InvoiceRowDocument(TypedDict):
    """One document of `dsfn bill list`. `kind`: "invoice" or "credit"; `reverses`: of a credit
    note, the number of its invoice; `sha256`: of the document."""

    number: str
    kind: str
    month: str
    tenant: str
    issued_at: str
    currency: str
    exponent: int
    total_minor: int
    reverses: str | None
    sha256: str


class ClosedDocument(TypedDict):
    """`dsfn bill close`. `sha256`: of the month's statement."""

    month: str
    status: str
    closed_at: str
    currency: str
    exponent: int
    total_minor: int
    sha256: str
    invoices: list[InvoiceRowDocument]


class PartyDocument(TypedDict):
    """Who sends or gets a bill."""

    name: str
    address: list[str]
    tax_id: str
    email: str


class InvoiceDocument(TypedDict):
    """`dsfn bill show` of one document, but for its chart."""

    version: int
    number: str
    kind: str
    month: str
    tenant: str
    issued_on: str
    due_on: str
    issuer: PartyDocument
    customer: PartyDocument
    currency: str
    exponent: int
    net_minor: int
    tax_minor: int
    total_minor: int
    lines: list[BillLineDocument]
    reverses: str
    reason: str


class InvoiceCheckDocument(TypedDict):
    """`dsfn bill verify`: what is wrong with a document, in sentences."""

    number: str
    ok: bool
    sha256: str
    public_key: str
    problems: list[str]


class CorrectionDocument(TypedDict):
    """`dsfn bill correct`: the row in the ledger that stands in for that of the call `corrects`;
    `error` is the reason."""

    corrects: str
    invocation_id: str
    tenant: str
    function: str
    revision: str
    device_class: str
    started_at_us: int
    busy_us: int
    held_us: int
    restore_us: int
    status: str
    error: str
