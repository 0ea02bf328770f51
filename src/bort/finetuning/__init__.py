"""Fine-tuning on labelled data: one training, the grid, the splits, and the report."""
