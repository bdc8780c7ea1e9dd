"""What devices are held for, to the microsecond: by calls, by restores, by nothing."""

from dsfn.runtime.leases.lease import DeviceLease, Slot

__all__ = ["DeviceLease", "Slot"]
