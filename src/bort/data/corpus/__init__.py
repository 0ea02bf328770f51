"""Plain text for pre-training, tokenised once and memory-mapped."""
