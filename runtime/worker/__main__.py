"""`python -m dsfn.runtime.worker`: the fork server, see there."""

from __future__ import annotations

import gc

from dsfn.runtime.bytecode import use_bytecode
from dsfn.runtime.left_out import left_out

# A sixth of all that is imported here: types of what pydantic makes. It imports them for itself.
NOT_NEEDED = {
    "pydantic_core.core_schema": ("CoreConfig", "CoreSchema", "CoreSchemaType", "ErrorType")
}


def main() -> None:
    """The program."""
    gc.disable()  # nothing of what imports make is garbage; workers enable it for themselves
    use_bytecode()
    with left_out(NOT_NEEDED):
        from dsfn.runtime.worker.forkserver import serve
    serve()


if __name__ == "__main__":
    main()
