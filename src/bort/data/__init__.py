"""Tables, pre-training corpora, text indexes and batches."""
