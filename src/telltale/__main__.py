"""``python -m telltale`` is the command."""

from telltale.cli.commands import main

main()
