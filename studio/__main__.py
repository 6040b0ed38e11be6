"""`python -m studio` is the `ladder` command."""

from studio.cli import main

if __name__ == "__main__":
    main()
