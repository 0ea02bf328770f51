"""What a GPU is used for: the training of bort-nano, and the pre-training step of preset `bort`."""
