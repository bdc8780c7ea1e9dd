"""`python -m dsfn.runtime.worker`: the fork server, see there."""

from __future__ import annotations

import gc

from dsfn.runtime.bytecode import use_bytecode


def main() -> None:
    """The program."""
    gc.disable()  # nothing of what imports make is garbage; workers enable it for themselves
    use_bytecode()
    from dsfn.runtime.worker.forkserver import serve

    serve()


if __name__ == "__main__":
    main()
