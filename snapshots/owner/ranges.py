"""Contiguous ranges of one space, best fit first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Ranges:
    """What of the bytes 0 to `total_bytes` is taken and what is free."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.used_bytes = 0
        self._free: list[tuple[int, int]] = [(0, total_bytes)] if total_bytes else []
        self._taken: dict[int, int] = {}

    @property
    def free_bytes(self) -> int:
        """All that is free, in however many ranges."""
        return self.total_bytes - self.used_bytes

    @property
    def largest_free_bytes(self) -> int:
        """The largest range that `take` can give."""
        return max((size for _, size in self._free), default=0)

    def taken_bytes(self, start: int) -> int:
        """The size of a range that `take` gave."""
        return self._taken[start]

    def take(self, size_bytes: int) -> int | None:
        """The offset of a range of this size, cut from the smallest free one; None: no room."""
        fitting = [(size, start) for start, size in self._free if size >= size_bytes]
        if not fitting or size_bytes <= 0:
            return None
        size, start = min(fitting)
        at = bisect_left(self._free, (start, size))
        rest = size - size_bytes
        self._free[at : at + 1] = [(start + size_bytes, rest)] if rest else []
        self._taken[start] = size_bytes
        self.used_bytes += size_bytes
        return start

    def claim(self, start: int, size_bytes: int) -> None:
        """Takes this very range, which is free."""
        at = bisect_right(self._free, (start, self.total_bytes)) - 1
        first, size = self._free[at]
        end = start + size_bytes
        assert first <= start < end <= first + size, "the range is not free"
        rests = [(first, start - first), (end, first + size - end)]
        self._free[at : at + 1] = [rest for rest in rests if rest[1]]
        self._taken[start] = size_bytes
        self.used_bytes += size_bytes

    def shrink(self, start: int, size_bytes: int) -> None:
        """Takes back what of a taken range lies behind its first `size_bytes`, at least one."""
        rest = self._taken[start] - size_bytes
        if rest > 0:
            self._taken[start] = size_bytes
            self._taken[start + size_bytes] = rest
            self.give(start + size_bytes)

    def give(self, start: int) -> None:
        """Takes back what `take` gave, and joins it to its free neighbours."""
        size = self._taken.pop(start)
        self.used_bytes -= size
        at = bisect_left(self._free, (start, size))
        end = start + size
        last = at
        if at < len(self._free) and self._free[at][0] == end:
            end += self._free[at][1]
            last += 1
        if at and sum(self._free[at - 1]) == start:
            at -= 1
            start = self._free[at][0]
        self._free[at:last] = [(start, end - start)]
