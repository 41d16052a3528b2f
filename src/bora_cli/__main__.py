"""`python -m bora_cli` is the command `bora`."""

from bora_cli.cli.app import main

if __name__ == "__main__":
    main()
