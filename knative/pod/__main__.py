"""`python -m dsfn.knative.pod`: serves one revision of a function on $PORT."""

from __future__ import annotations

import gc

from dsfn.knative.process_one import end_at_sigterm


def main() -> None:
    """The program: serves until SIGTERM."""
    end_at_sigterm()
    gc.disable()  # nothing of what a start makes is garbage; `run` enables it
    from dsfn.runtime.bytecode import use_bytecode

    use_bytecode()
    from dsfn.knative.pod.start import start

    start()


if __name__ == "__main__":
    main()
