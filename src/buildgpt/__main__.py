"""`python -m buildgpt` is the command line, installed or from a checkout."""

from .cli import main

main()
