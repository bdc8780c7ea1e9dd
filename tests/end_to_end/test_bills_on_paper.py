"""Bills as pages, PDFs and FOCUS datasets, from a node over HTTP and on the command line."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from live_node import LiveNode, environment
from pypdf import PdfReader

SOURCE = """\
import dsfn


@dsfn.function
def on_paper(number: int) -> int:
    return number
"""


@pytest.fixture(scope="module")
def used(node: LiveNode, tmp_path_factory: pytest.TempPathFactory) -> LiveNode:
    """The shared node; a function of this module's was called on it."""
    app = tmp_path_factory.mktemp("paper") / "app.py"
    app.write_text(SOURCE, encoding="utf-8")
    node.deploy(app)
    for number in range(3):
        assert node.value("on-paper", number=number) == number
    return node


def dsfn(node: LiveNode, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "dsfn", *arguments],
        env=environment({"DSFN_URL": node.url}),
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_browser_gets_a_page_that_can_load_nothing(used: LiveNode) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    answer = used.http.get("/bill", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "on-paper" in answer.text and "Estimate" in answer.text


def test_a_format_is_asked_for_by_name_or_by_type(used: LiveNode) -> None:
    by_name = used.http.get("/bill", params={"format": "pdf"})
    by_type = used.http.get("/bill", headers={"Accept": "application/pdf"})
    for answer in (by_name, by_type):
        assert answer.headers["content-type"] == "application/pdf"
        text = PdfReader(io.BytesIO(answer.content)).pages[0].extract_text()
        assert "on-paper" in text and "ESTIMATE" in text
    assert used.http.get("/bill").json()["status"] == "open"
    assert used.http.get("/bill", params={"format": "csv"}).text.startswith("month,")


def test_a_format_that_is_none_is_refused(used: LiveNode) -> None:
    answer = used.http.get("/bill", params={"format": "docx"})
    assert answer.status_code == 400
    assert "json, csv, focus, html, pdf" in answer.json()["detail"]
    answer = used.http.get("/bill", headers={"Accept": "image/png"})
    assert answer.status_code == 406
    answer = used.http.get("/invoices/2026-11-0001", params={"format": "html"})
    assert answer.status_code == 404


def test_the_command_line_writes_files(used: LiveNode, tmp_path: Path) -> None:
    pdf = dsfn(used, "bill", "report", "--pdf")
    assert pdf.returncode == 0, pdf.stderr
    assert len(PdfReader(io.BytesIO(pdf.stdout)).pages) >= 1
    page = dsfn(used, "bill", "report", "--html", "--for", "today", "--by", "revision")
    assert page.stdout.startswith(b"<!doctype html>") and b"revision on-paper-" in page.stdout
    focus = dsfn(used, "bill", "report", "--focus", "--by", "day")
    rows = list(csv.DictReader(io.StringIO(focus.stdout.decode(), newline="")))
    assert "3" in [row["x_RequestCount"] for row in rows if row["x_Function"] == "on-paper"]


def test_one_format_at_a_time(used: LiveNode) -> None:
    both = dsfn(used, "bill", "report", "--pdf", "--html")
    assert (both.returncode, both.stdout) == (2, b"")
    assert b"Choose one of --html and --pdf." in both.stderr


def test_a_month_without_invoices_has_no_paper(used: LiveNode) -> None:
    none = dsfn(used, "bill", "show", "2020-01", "--pdf")
    assert none.returncode == 2
    assert b"There are no invoices of 2020-01." in none.stderr
