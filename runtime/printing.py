"""Bills and invoices on paper: which document it is, and its bytes in a format."""

from __future__ import annotations

from typing import Literal

from dsfn.billing.exports.focus import Accounts, to_focus
from dsfn.billing.exports.html import to_html
from dsfn.billing.exports.paper import Paper, Seal, paper_of_invoice, paper_of_statement
from dsfn.billing.exports.pdf import to_pdf
from dsfn.billing.invoice import DayAmount, day_amounts
from dsfn.billing.issued import Issued
from dsfn.billing.months import Months, invoice_in
from dsfn.billing.ranges import Range
from dsfn.billing.statement import Statement, range_statement
from dsfn.functions.values import dataclass

Format = Literal["html", "pdf"]


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints what the months of a ledger have. All of it takes its time and may run in any
    thread."""

    months: Months

    def statement(self, stretch: Range, by: str, tenant: str, now_us: int) -> Statement:
        """What was used in a stretch of time. Raises `UsageError`."""
        months = self.months
        if stretch.month is not None:
            return months.report(stretch.month.text, by, tenant, now_us)
        return range_statement(months.ledger, months.book(), stretch, by, tenant)

    def bill(self, stretch: Range, by: str, tenant: str, now_us: int, format: Format) -> bytes:
        """A stretch of time on paper. A month of one tenant, by function, is its invoice, or the
        estimate of it; all else is a statement.

        Raises `UsageError`, and `NotAcceptable` where the extra `invoices` is not installed.
        """
        if stretch.month is not None and by == "function":
            drafts = self.months.drafts(stretch.month.text, tenant, now_us)
            if len(drafts) == 1:
                (draft,) = drafts
                if draft.number:
                    return self.document(draft.number, format)
                return self._drawn(paper_of_invoice(draft), format)
        found = self.statement(stretch, by, tenant, now_us)
        days = self._days(found, stretch, tenant, now_us)
        paper = paper_of_statement(found, self.months.parties.issuer, days)
        return self._drawn(paper, format)

    def document(self, number: str, format: Format) -> bytes:
        """An invoice or a credit note: with the bytes with which it was printed first, whatever
        version and fonts that was with. Raises as `bill` does, `NotFound`, `StorageFull`."""
        issued = self.months.issued(number)
        documents = self.months.ledger.documents
        kept = documents.printed(number, format)
        if kept is not None:
            return kept
        paper = paper_of_invoice(invoice_in(issued), _seal(issued))
        return documents.keep_print(number, format, self._drawn(paper, format))

    def focus(self, stretch: Range, by: str, tenant: str, now_us: int) -> str:
        """A stretch of time as a FOCUS dataset. Raises `UsageError`."""
        found = self.statement(stretch, by, tenant, now_us)
        parties = self.months.parties
        names = {name: party.name for name, party in parties.customers.items()}
        return to_focus(found, Accounts(parties.issuer.name, names, self._numbers(found)))

    def _numbers(self, found: Statement) -> dict[str, str]:
        """The numbers of a closed month's invoices, by tenant."""
        if found.month is None or found.status == "open":
            return {}
        issued = self.months.ledger.documents.all(found.month)
        return {each.tenant: each.number for each in issued if not each.reverses}

    def _days(
        self, found: Statement, stretch: Range, tenant: str, now_us: int
    ) -> tuple[DayAmount, ...]:
        by_day = found if found.by == "day" else self.statement(stretch, "day", tenant, now_us)
        return day_amounts(by_day.lines)

    def _drawn(self, paper: Paper, format: Format) -> bytes:
        return to_html(paper) if format == "html" else to_pdf(paper, self.months.parties.fonts)


def _seal(issued: Issued) -> Seal:
    return Seal(issued.sha256, issued.signature, issued.public_key)
