"""Data: sources, the drawn scenes, validation, tokenization, batches."""
