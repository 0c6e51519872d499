"""``python -m telltale`` is the command."""

from telltale.cli import main

main()
