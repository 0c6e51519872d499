"""The command line: arguments, options and the screen; what is done is `telltale.api`'s."""
