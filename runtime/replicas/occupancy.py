"""How long each of several calls held a replica that they shared."""

from __future__ import annotations

from dataclasses import dataclass, field

# The level counts parts of a nanosecond, so that dividing it among many calls loses none.
_FRACTION_BITS = 20


@dataclass(slots=True)
class Occupancy:
    """Divides the time in which a replica is held equally among those who hold it.

    The shares of all holders add up to the time in which there was one, but for
    what is cut off below a nanosecond.
    """

    _since_ns: int = 0
    _holders: int = 0
    _level: int = field(default=0)

    def enter(self, now_ns: int) -> int:
        """Somebody begins to hold; returns the mark for `share_ns` and `leave`."""
        self._advance(now_ns)
        self._holders += 1
        return self._level

    def share_ns(self, mark: int, now_ns: int) -> int:
        """The share so far of one who holds since `mark`."""
        self._advance(now_ns)
        return (self._level - mark) >> _FRACTION_BITS

    def leave(self, mark: int, now_ns: int) -> int:
        """Somebody who held since `mark` is done; returns the share in nanoseconds."""
        share_ns = self.share_ns(mark, now_ns)
        self._holders -= 1
        return share_ns

    def _advance(self, now_ns: int) -> None:
        if self._holders:
            self._level += ((now_ns - self._since_ns) << _FRACTION_BITS) // self._holders
        self._since_ns = now_ns


@dataclass(eq=False, slots=True)
class Slot:
    """One call's place in a replica, from its reservation until the worker is done with it."""

    occupancy: Occupancy
    mark: int
    held_ns: int | None = None

    def release(self, now_ns: int) -> None:
        """The worker is done with the call."""
        self.held_ns = self.occupancy.leave(self.mark, now_ns)

    def held_us(self, now_ns: int) -> int:
        """The call's share of the replica's time, up to now or to its end."""
        held_ns = self.held_ns
        if held_ns is None:
            held_ns = self.occupancy.share_ns(self.mark, now_ns)
        return held_ns // 1000
