"""Divides whole microseconds among calls that hold a replica together, so that none is lost."""

from __future__ import annotations

from dsfn.functions.values import dataclass

# Shares are counted in parts of a microsecond, so that a stretch shorter than there are holders
# is divided, too.
_FRACTION_BITS = 32
_HALF = 1 << _FRACTION_BITS - 1


@dataclass(eq=False, slots=True)
class Share:
    """What one holder has coming to it. `weight`: how much of the time it gets while there is
    one with a weight; where nobody has one, all get the same."""

    weight: int
    _units: int
    _by_weight: int
    _equally: int


@dataclass(eq=False, slots=True)
class Sharing:
    """Divides the time in which there are holders among them, by weight.

    What is taken is whole microseconds, each time within one of the exact share: what was rounded
    off one goes to the next that is taken, and the last holder takes all that is left. So what
    all have taken adds up to the time, exactly.
    """

    holders: int = 0
    _weights: int = 0
    # What a holder of weight 1 has got since the beginning, and what any has got.
    _by_weight: int = 0
    _equally: int = 0
    # Units that could not be divided yet, and those by which rounding has taken too little.
    _undivided: int = 0
    _left: int = 0

    def advance(self, duration_us: int) -> None:
        """So much time has passed for those who hold."""
        units = (duration_us << _FRACTION_BITS) + self._undivided
        if self._weights:
            step, self._undivided = divmod(units, self._weights)
            self._by_weight += step
        elif self.holders:
            step, self._undivided = divmod(units, self.holders)
            self._equally += step

    def enter(self) -> Share:
        """Somebody begins to hold, without a weight."""
        self.holders += 1
        return Share(0, 0, self._by_weight, self._equally)

    def weigh(self, share: Share, weight: int) -> None:
        """From now on this holder has this weight."""
        self._gather(share)
        self._weights += weight - share.weight
        share.weight = weight

    def take(self, share: Share) -> int:
        """The microseconds that this holder has got since it last took some."""
        self._gather(share)
        units = share._units + self._left
        taken_us = (units + _HALF) >> _FRACTION_BITS
        share._units, self._left = 0, units - (taken_us << _FRACTION_BITS)
        return taken_us

    def take_rest(self, share: Share) -> int:
        """The same, for the last after all others have taken theirs at this moment."""
        self._gather(share)
        units = share._units + self._left + self._undivided
        share._units = self._left = self._undivided = 0
        return units >> _FRACTION_BITS

    def leave(self, share: Share) -> int:
        """This holder is done; what it takes with it."""
        taken_us = self.take_rest(share) if self.holders == 1 else self.take(share)
        self.holders -= 1
        self._weights -= share.weight
        if not self.holders:
            self._by_weight = self._equally = 0
        return taken_us

    def _gather(self, share: Share) -> None:
        share._units += share.weight * (self._by_weight - share._by_weight)
        share._units += self._equally - share._equally
        share._by_weight, share._equally = self._by_weight, self._equally
