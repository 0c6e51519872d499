"""Models: finding and loading them, and running their layers one by one."""
