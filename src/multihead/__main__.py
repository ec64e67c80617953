"""`python -m multihead`."""

from .cli.main import main

main()
