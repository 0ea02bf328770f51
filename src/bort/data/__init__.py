"""Text and tables in: readers, batches, corpora, masking."""
