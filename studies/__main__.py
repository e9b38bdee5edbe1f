"""`python -m studies` is the command `dynloss`."""

from studies.cli import main

if __name__ == "__main__":
    main()
