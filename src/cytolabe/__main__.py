"""`python -m cytolabe` is the command `cytolabe`."""

from cytolabe.cli.main import main

if __name__ == "__main__":
    main()
