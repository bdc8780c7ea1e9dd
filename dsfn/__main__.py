"""`python -m dsfn`: the command line."""

from dsfn.runtime.cli.app import main

if __name__ == "__main__":
    main()
