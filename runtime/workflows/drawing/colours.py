"""The colours of states in pictures: of a box's inside and of its edge."""

from __future__ import annotations

from collections.abc import Mapping

INK, FAINT, PAPER = "#1f2933", "#616e7c", "#ffffff"
PLAIN = ("#f0f4f8", "#829ab1")
FILLS: Mapping[str, tuple[str, str]] = {
    "waiting": PLAIN,
    "running": ("#fff3c4", "#cb6e17"),
    "succeeded": ("#e3f9e5", "#2f8132"),
    "failed": ("#ffe3e3", "#c92a2a"),
    "skipped": ("#ffffff", "#b8c4ce"),
    "cancelled": ("#ece6f5", "#7b5ea7"),
}
