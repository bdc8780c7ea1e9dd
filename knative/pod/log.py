"""What a function prints, as lines of JSON on the pod's standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class StandardOutput:
    """A `Log` that the cluster collects. What nobody takes is dropped, and counted."""

    def __init__(self, directory: Path) -> None:
        self.dropped_lines = 0

    def append(self, lines: bytes) -> None:
        """See `Log`."""
        descriptor, left = sys.stdout.fileno(), memoryview(lines)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            self.dropped_lines += bytes(left).count(b"\n")

    def close(self) -> None:
        """See `Log`. Standard output stays open."""
