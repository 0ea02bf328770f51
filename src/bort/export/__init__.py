"""Export of a fine-tuned folder to an optimised runtime model, which must not lose too much accuracy."""
