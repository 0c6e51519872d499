"""Support for all modules: files, formatted numbers, waiting, wheels. Knows nothing of models."""
