"""Models: where weights come from, and driving a model's layers one by one."""
