"""Teachers of a pre-training run: what they compute, and where their outputs are cached."""
