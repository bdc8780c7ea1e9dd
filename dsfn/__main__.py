"""`python -m dsfn`: the command line."""

from dsfn.knative.cli.commands import add_commands
from dsfn.runtime.cli.app import main

# The runtime's commands know nothing of a cluster.
add_commands()

if __name__ == "__main__":
    main()
