"""`python -m dsfn.knative.pod`: serves one revision of a function on $PORT."""

from __future__ import annotations

import gc

from dsfn.runtime.bytecode import use_bytecode


def main() -> None:
    """The program: serves until SIGTERM."""
    gc.disable()  # nothing of what a start makes is garbage; `run` enables it
    use_bytecode()
    from dsfn.knative.pod.start import start

    start()


if __name__ == "__main__":
    main()
