"""Writing the shallower model: a checkpoint that loads everywhere, verified by reloading it."""
