"""Teachers of a pre-training run: what they are asked, and where their answers are kept."""
