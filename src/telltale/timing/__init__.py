"""How fast a model is as whoever uses it has it: two models timed in turn, beside their work."""
