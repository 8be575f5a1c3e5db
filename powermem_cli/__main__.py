"""`python -m powermem_cli`."""

from powermem_cli.cli import main

main()
