"""What pre-training and fine-tuning share."""
