"""`python -m attar`: the command line where the command itself is not on the path."""

from attar.cli import main

main()
