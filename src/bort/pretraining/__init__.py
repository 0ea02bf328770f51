"""Pre-training and distillation of an encoder on plain text."""
