"""Writing a shallower model as a checkpoint, verified by reloading it."""
