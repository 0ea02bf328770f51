"""Label many rows or files: read in blocks, predicted here, in processes or on a cluster, and written atomically."""
