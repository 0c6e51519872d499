"""What any module may need and that knows nothing of models: files, words, waiting, wheels."""
