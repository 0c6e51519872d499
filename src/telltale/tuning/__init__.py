"""Fine-tuning a model, whole or shallower, on a task's own examples."""
