"""``python -m telltale`` is the command."""

from telltale.cli.main import main

main()
