"""The memory owner: `python -m dsfn.snapshots.owner FD`.

FD is a SOCK_SEQPACKET socket to the node; `dsfn.snapshots.owner.messages` says what goes over
it. The process ends when the node does, and all its memory with it.
"""

from __future__ import annotations

import signal
import socket
import sys
from typing import NoReturn

from dsfn.snapshots.owner.linux import allow_many_descriptors
from dsfn.snapshots.owner.server import Owner
from dsfn.snapshots.parent import die_with_parent


def main() -> NoReturn:
    """The program."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # when to end is the node's decision
    allow_many_descriptors()
    Owner(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
