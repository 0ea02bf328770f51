"""One way to train: pre-training and fine-tuning on the Trainer of `transformers`."""
