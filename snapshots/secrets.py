"""What code of functions must not come to know: the secrets of the platform that runs it.

It runs as the same user as the platform's own programs. So it gets none of the secrets in its
environment, and those programs keep theirs to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

# What the platform is asked with, and where its books are and what signs them.
_ALWAYS = frozenset({"DSFN_API_KEY", "DSFN_LEDGER", "DSFN_LEDGER_KEY"})
# Where there is this variable, which is a bucket's name and no secret, the store is the platform's,
# and so are the credentials for it; elsewhere they are those of whoever runs the node, and may be
# meant for functions.
_STORE = "DSFN_STORE"
_CREDENTIALS = "AWS_"
_PR_SET_DUMPABLE = 4


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that runs code of functions, or can be looked into by it."""
    kept = {name: value for name, value in environ.items() if name not in _ALWAYS}
    if _STORE in environ:
        return {name: kept[name] for name in kept if not name.startswith(_CREDENTIALS)}
    return kept


def keep_secrets() -> None:
    """Has the kernel refuse this process's environment, memory and open files to other processes
    of its user, unless they are root's. A program that it starts can be looked into again."""
    import ctypes  # a pod, which needs it here first, starts its fork server before that

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
